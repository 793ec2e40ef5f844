"""Hydrate: bring back what the conversation knows, from the nearest tier that is surely current.

The hot copy is used only when its versions are the state tier's own; those are read while the lock is taken, so the check
costs no time. It also tells, before anything is sent to Claude, whether the reply could be saved at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from agentmemory_sidecar.memory.item import Item, LastStep, UnknownFormat, unpack
from agentmemory_sidecar.memory.ledger import Entry
from agentmemory_sidecar.memory.ledger import unpack as unpack_entry
from agentmemory_sidecar.memory.state import from_json, lay_over
from agentmemory_sidecar.resource.state import StateUnavailable
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import ABSENT, Conversation, StoreUnavailable, Versions
from agentmemory_sidecar.wire.errors import memory_stale, memory_unavailable

REPEAT_S = 600.0
"""How long a committed reply answers the identical request."""


class Tier(Enum):
    """Which tier answered."""

    HOT = "hot"
    STATE = "state"
    EMPTY = "empty"
    NONE = "none"


@dataclass(slots=True)
class Memory:
    """What the conversation knows at the start of a step."""

    item: Item
    versions: Versions
    ledger: dict[str, Entry]
    tier: Tier
    state: dict[str, Any]
    """The state object that the prompt draws from: the session's."""
    in_hot: set[str] = field(default_factory=set)
    """Ledger keys that the hot tier holds already."""
    acknowledged: str = ""
    compacted: bool = False
    notes: tuple[bytes, ...] = ()
    remembers: bool = True
    """False when the state tier is away and the resource lets the agent go on without it."""

    def repeat(self, question: Question, now: float) -> LastStep | None:
        """The stored reply, if this is the very request it answered, its client may not have it, and it is fresh."""
        last = self.item.last
        if last is None or not last.reply or last.request != question.fingerprint:
            return None
        if self.acknowledged == last.step or now - last.at > REPEAT_S:
            return None
        return last


async def hydrate(services: Services, question: Question, lease: Lease) -> Memory:
    """Raises ApiError (503) where the state tier is away and the resource refuses to go on without it, and where it is
    behind what the hot tier knows."""
    try:
        memory = await _own(services, question, lease)
        if not question.is_root:
            memory.state = await _session_state(services, question, memory.item)
    except StoreUnavailable as error:
        services.metrics.state_unavailable.inc()
        if services.config.on_state_unavailable is StateUnavailable.REFUSE:
            raise memory_unavailable("state tier") from error
        return _without(services, lease)
    except UnknownFormat as error:
        raise memory_unavailable("newer format") from error
    thread = question.request.thread
    if (
        question.request.continues_thread
        and thread is not None
        and (mark := memory.item.mark_of_reply(thread.previous))
    ):
        question.request.follow(mark)
    return memory


async def _own(services: Services, question: Question, lease: Lease) -> Memory:
    begun = lease.begun
    if begun is None:
        if lease.stored is None:
            raise StoreUnavailable("state", "not reached when the lock was taken", definite=True)
        stored = lease.stored
        return _memory(services, stored.versions, stored.body, _entries(stored.ledger), Tier.STATE)
    assert lease.checked is not None
    versions = await lease.checked
    hot = dict(lease.recent.ledger) if begun.same and lease.recent is not None else _entries(begun.ledger)
    current = begun.copy is not None and begun.copy.versions == versions
    if current and begun.same and lease.recent is not None and lease.recent.versions == versions:
        memory = Memory(lease.recent.item, versions, hot, Tier.HOT, lease.recent.state)
    elif current and begun.copy is not None and not begun.same:
        memory = _memory(services, versions, begun.copy.body, hot, Tier.HOT)
    else:
        stored = await services.state.read(question.conversation)
        if begun.copy is not None and ABSENT.version < stored.versions.version < begun.copy.versions.version:
            # A standby that took over, or a backup: what the session has seen since is not there. (No item at all is one
            # that has expired.) ``staleReads`` knows no other answer yet.
            raise memory_stale()
        memory = _memory(services, stored.versions, stored.body, hot | _entries(stored.ledger), Tier.STATE)
    memory.in_hot = set(hot)
    memory.acknowledged, memory.compacted, memory.notes = begun.acknowledged, begun.compacted, tuple(begun.notes)
    return memory


def _memory(services: Services, versions: Versions, body: bytes, ledger: dict[str, Entry], tier: Tier) -> Memory:
    item = unpack(body)
    state = from_json(item.state, region=services.config.region)
    return Memory(item, versions, ledger, tier if body else Tier.EMPTY, state)


def _entries(ledger: Mapping[str, bytes]) -> dict[str, Entry]:
    return {key: unpack_entry(data) for key, data in ledger.items()}


def _without(services: Services, lease: Lease) -> Memory:
    """The state tier is away and the agent goes on: the ledger is still repeated as far as the hot tier knows it."""
    if lease.begun is not None and lease.begun.same and lease.recent is not None:
        ledger = dict(lease.recent.ledger)
    else:
        ledger = _entries(lease.begun.ledger if lease.begun else {})
    return Memory(Item(), ABSENT, ledger, Tier.NONE, {}, in_hot=set(ledger), remembers=False)


async def _session_state(services: Services, question: Question, own: Item) -> dict[str, Any]:
    """The session's state for a subagent, with the subagent's own patches that are not applied yet laid over it."""
    item, _ = await current(services, question.root)
    state = from_json(item.state, region=services.config.region)
    return lay_over(state, [patch.patch for patch in own.patches])


async def current(services: Services, conversation: Conversation) -> tuple[Item, Versions]:
    """Another conversation's item as it stands in the state tier. Raises StoreUnavailable, UnknownFormat."""
    stored = await services.state.read(conversation)
    return unpack(stored.body), stored.versions
