"""Hydrate: bring back what the conversation knows, from the nearest tier that is surely current.

The hot copy is used only when its versions are the state tier's own; those are read while the lock is taken, so the check
costs no time. It also tells, before anything is sent to Claude, whether the reply could be saved at all.
"""

import asyncio
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from agentmemory_sidecar.memory import together
from agentmemory_sidecar.memory.form import form_of
from agentmemory_sidecar.memory.item import Item, LastStep, UnknownFormat
from agentmemory_sidecar.memory.ledger import Entry
from agentmemory_sidecar.memory.ledger import unpack as unpack_entry
from agentmemory_sidecar.memory.scopes import Home, Homes
from agentmemory_sidecar.memory.together import Reading
from agentmemory_sidecar.resource.state import StaleReads, StateUnavailable
from agentmemory_sidecar.step import build, heads
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.recent import Recent
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    Begun,
    Conversation,
    OtherHead,
    Stored,
    StoreUnavailable,
    Versions,
)
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
    others: tuple[OtherHead, ...]
    """The other regions' heads that the item was made with."""
    ledger: dict[str, Entry]
    tier: Tier
    state: dict[str, Any]
    """The state object that the prompt draws from: the session's, and what else its homes hold."""
    reading: Reading | None = None
    """How it was put together, where it is not all in the conversation's own item."""
    in_hot: set[str] = field(default_factory=set)
    """Ledger keys that the hot tier holds already."""
    acknowledged: str = ""
    compacted: bool = False
    notes: tuple[bytes, ...] = ()
    stale_by: int = 0
    """How many versions the state is older than what the session has seen, where the resource has that served."""
    remembers: bool = True
    """False when the state tier is away and the resource lets the agent go on without it."""

    def learn(self, ledger: Mapping[str, bytes]) -> None:
        """Take in entries that other steps have made meanwhile: a hot copy is told of all that are not newer than its
        item."""
        self.ledger |= {key: unpack_entry(data) for key, data in ledger.items() if key not in self.ledger}

    def repeat(self, question: Question, now: float) -> LastStep | None:
        """The stored reply, if this is the very request it answered, its client may not have it, and it is fresh."""
        last = self.item.last
        if last is None or not last.reply or last.request != question.fingerprint:
            return None
        if self.acknowledged == last.step or now - last.at > REPEAT_S:
            return None
        return last


class StateAway(Exception):
    """The state tier does not answer at this endpoint, and nothing was sent yet; ``instead`` has another one."""

    def __init__(self, instead: Services) -> None:
        super().__init__("the state tier does not answer")
        self.instead = instead


async def hydrate(services: Services, question: Question, lease: Lease) -> Memory:
    """Raises ApiError (503) where the state tier is away and the resource refuses to go on without it, and where it is
    behind what the hot tier knows; StateAway where another region's endpoint can be asked."""
    try:
        memory = await _own(services, question, lease)
        if not question.owns_state:
            memory.reading = await read_state(
                services, question.homes, question.conversation, memory.item, memory.state
            )
            memory.state = memory.reading.state
    except StoreUnavailable as error:
        services.metrics.state_unavailable.inc()
        services.state_health.failed()
        if services.at_hand() is not services:
            raise StateAway(services.at_hand()) from error
        if services.config.on_state_unavailable is StateUnavailable.REFUSE:
            raise memory_unavailable("state tier") from error
        return _without(services, lease)
    except UnknownFormat as error:
        raise memory_unavailable("newer format") from error
    services.state_health.worked()
    for kind in question.homes.missing:
        services.metrics.count(services.metrics.ownerless, kind)
    if services.substitute:
        services.metrics.elsewhere.inc()
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
        return _memory(services, question, stored, _entries(stored.ledger), Tier.STATE)
    assert lease.checked is not None
    versions = await lease.checked
    hot = dict(lease.recent.ledger) if begun.same and lease.recent is not None else _entries(begun.ledger)
    known = _known(services, lease, begun)
    if known is not None and known.versions == versions and not heads.behind(known.versions, versions):
        if known.recent is not None:
            memory = _remembered(question, known.recent, hot)
        else:
            memory = _memory(services, question, known.stored, hot, Tier.HOT)
    else:
        stored = await services.state.read(question.conversation)
        if known is not None:
            stored = _not_older(services, stored, known)
        memory = _memory(services, question, stored, hot | _entries(stored.ledger), Tier.STATE)
        memory.stale_by = known.stale_by if known is not None else 0
    memory.in_hot = set(hot)
    memory.acknowledged, memory.compacted, memory.notes = begun.acknowledged, begun.compacted, tuple(begun.notes)
    return memory


@dataclass(slots=True)
class _Known:
    """What the hot tier, or this process, has of the conversation; current only if the state tier says so."""

    versions: Versions
    stored: Stored
    recent: Recent | None = None
    stale_by: int = 0
    """How many versions the tier is behind, where that is served."""


def _known(services: Services, lease: Lease, begun: Begun) -> _Known | None:
    recent = lease.recent
    if begun.copy is None:
        return None
    if begun.same:
        if recent is None or recent.versions != begun.copy.versions:
            return None
        return _Known(recent.versions, Stored(recent.versions, b"", {}, recent.others), recent)
    versions, body, others = heads.unpack_copy(services.config, services.state.head, begun.copy)
    return _Known(versions, Stored(versions, body, {}, others))


def _not_older(services: Services, stored: Stored, known: _Known) -> Stored:
    """The read, with the heads of other regions that the session has seen newer: those are true wherever they come from.
    Own writes that the tier does not have are another matter: it is a standby that took over, or a backup. (No item at all
    is one that has expired.) Raises ApiError unless the resource wants the older state served."""
    if ABSENT.version < stored.versions.version < known.versions.version:
        if services.config.stale_reads is StaleReads.REFUSE:
            raise memory_stale()
        services.metrics.stale.inc()
        known.stale_by = known.versions.version - stored.versions.version
    others = heads.newest(stored.others, known.stored.others)
    return replace(stored, versions=replace(stored.versions, others=heads.versions_of(others)), others=others)


def _memory(services: Services, question: Question, stored: Stored, ledger: dict[str, Entry], tier: Tier) -> Memory:
    item = heads.whole(services.config, services.state.head, stored)
    if item.others:
        services.metrics.unmerged(question.conversation, heads.unmerged(services.state.head, item))
    heads.follow(item, question)
    state = build.state_as_read(services.config, item, question.conversation, question.conversation, item)
    found = stored.body or stored.others
    return Memory(item, stored.versions, stored.others, ledger, tier if found else Tier.EMPTY, state)


def _remembered(question: Question, recent: Recent, ledger: dict[str, Entry]) -> Memory:
    item = recent.item
    if item.elsewhere:
        item = copy(item)
        heads.follow(item, question)
    return Memory(item, recent.versions, recent.others, ledger, Tier.HOT, recent.state)


def _entries(ledger: Mapping[str, bytes]) -> dict[str, Entry]:
    return {key: unpack_entry(data) for key, data in ledger.items()}


def _without(services: Services, lease: Lease) -> Memory:
    """The state tier is away and the agent goes on: the ledger is still repeated as far as the hot tier knows it."""
    if lease.begun is not None and lease.begun.same and lease.recent is not None:
        ledger = dict(lease.recent.ledger)
    else:
        ledger = _entries(lease.begun.ledger if lease.begun else {})
    return Memory(Item(), ABSENT, (), ledger, Tier.NONE, {}, in_hot=set(ledger), remembers=False)


async def read_state(
    services: Services, homes: Homes, reader: Conversation, own: Item, state: dict[str, Any]
) -> Reading:
    """The parts of a state from all its homes, read at once. ``state`` is what the reader's own item ``own`` has; that one
    must have been read before: what it has no more, it has given to the others. Raises StoreUnavailable, UnknownFormat."""
    config = services.config

    async def part(home: Home) -> dict[str, Any]:
        if home.owner == reader:
            return state
        if not home.reads:
            return {}
        item, _ = await current(services, home.owner)
        return build.state_as_read(config, item, home.owner, reader, own)

    away = sum(home.owner != reader and bool(home.reads) for home in homes.homes)
    if away > 1:
        parts = await asyncio.gather(*map(part, homes.homes))
    else:
        parts = [await part(home) for home in homes.homes]
    return together.read(homes, parts, form_of(config).beginning(own.user), config.filter.never_in_prompt)


async def current(services: Services, conversation: Conversation) -> tuple[Item, Versions]:
    """Another conversation's item as it stands in the state tier. Raises StoreUnavailable, UnknownFormat."""
    stored = await services.state.read(conversation)
    return heads.whole(services.config, services.state.head, stored), stored.versions
