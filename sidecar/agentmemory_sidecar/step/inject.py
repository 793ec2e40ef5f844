"""Inject: repeat what was put in before, add what this turn needs, and freeze it before it is sent.

``plan`` decides; ``inject`` freezes the new entry, if there is one, with the one extra call to the hot tier that it costs.
"""

import contextlib
from dataclasses import dataclass, field, replace

import msgspec

from agentmemory_sidecar.memory.filter.base import Selection
from agentmemory_sidecar.memory.ledger import (
    Entry,
    Replay,
    assemble,
    is_known,
    next_ordinal,
    pack,
    unpack,
    variant_key,
)
from agentmemory_sidecar.memory.render import claims, render
from agentmemory_sidecar.memory.state import Operation
from agentmemory_sidecar.memory.tokens import estimate
from agentmemory_sidecar.memory.window import as_history
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.prompt import OnFresh, Role
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.step.forward import DROP_BLOCK_BETA, Prompt
from agentmemory_sidecar.step.hydrate import Memory, Tier
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.selector import NOBODY, Chosen
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from agentmemory_sidecar.wire.headers import receipt
from agentmemory_sidecar.wire.request import MessagesRequest
from agentmemory_sidecar.wire.spans import Span, members, splice


@dataclass(slots=True)
class Injection:
    """What stands in this prompt that the client did not write."""

    replay: Replay
    new: Entry | None = None
    unsaved: dict[str, bytes] = field(default_factory=dict)
    """The new entry while only the hot tier has it; it reaches the state tier with the commit, or when the step ends."""
    fresh: bool = False
    """A client without a history of its own: the last turns are put before its first message."""
    lacking: bool = False
    """Something that the client was answered with before may be missing here."""
    nothing: Entry | None = None
    """What to keep if the attempt fails though nothing was put in here."""
    receipt: dict[str, str] = field(default_factory=dict)
    chosen: Chosen = NOBODY
    """What the filter said, for the record."""
    rounds: list[Entry] = field(default_factory=list)
    """The exchanges of this step that the client is not shown."""
    changes: tuple[Operation, ...] = ()
    """What they make of the state, once the step is committed."""
    own_tool: bool = False
    """The agent implements the memory tool itself."""

    @property
    def made(self) -> tuple[Entry, ...]:
        """The entries that this step adds to the ledger."""
        return (self.new, *self.rounds) if self.new else tuple(self.rounds)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return (*self.replay.entries, self.new) if self.new else self.replay.entries

    def stands_at(self, request: MessagesRequest) -> bool:
        """Whether an entry was already frozen for the message this step asks about."""
        mark = request.chain.end(request.last_user)
        return mark in [entry.mark for entry in self.replay.entries]

    def here(self, request: MessagesRequest) -> str:
        """Key of the entry that stands behind the message this step asks about; empty for none."""
        mark, new = request.chain.last, self.new
        if new is not None and new.mark == mark:
            return new.key
        for entry in reversed(self.replay.entries):
            if entry.mark == mark:
                return entry.key
        return ""

    @property
    def new_texts(self) -> list[str]:
        """What this step put in, for the record."""
        return [text.decode() for text in (self.new.history, self.new.text) if text] if self.new else []


def begins(question: Question) -> bool:
    """Whether a conversation begins here: the client shows no reply of ours."""
    request = question.request
    return not request.has_assistant and request.starts_turn and not request.continues_thread


def is_fresh(question: Question, memory: Memory, replay: Replay) -> bool:
    """A client without a history of its own on a session that has one: another device, a restarted agent.

    The prefix is unknown, or it is one whose earlier conversation was committed: the same first words again. (An entry of
    an attempt that failed is sent again as it was: the client may hold partial thinking that is bound to it.)
    """
    if not question.is_root or memory.compacted or not begins(question):
        return False
    if replay.entries:
        return replay.entries[-1].ordinal <= memory.item.entries
    return not is_known(question.request, memory.ledger, memory.item.replies)


def plan(
    config: SidecarConfig,
    question: Question,
    memory: Memory,
    injection: Injection,
    selection: Selection,
    maker: str = "",
) -> Entry | None:
    """The entry for the first step of a turn, perhaps with nothing in it; None where none belongs. ``maker`` names the step
    where another one may make an entry at the same place and not know of this: what goes to the state tier alone
    (``Degraded``) and to a hot tier, or to two regions' hot tiers, meets no condition that holds in both."""
    request = question.request
    here = request.last_user
    if here < 0 or not request.starts_turn or not memory.remembers or injection.stands_at(request):
        return None
    text = render(selection)
    history = []
    if injection.fresh and config.hydration.on_fresh is OnFresh.PREPEND:
        left = config.injection.conversation_tokens - injection.replay.tokens - estimate(text)
        budget = min(config.hydration.budget_tokens, left)
        history = as_history(memory.item.window[-config.hydration.turns :], budget)
    packed = b",".join(msgspec.json.encode(message) for message in history)
    mark = request.chain.end(here)
    return Entry(
        key=variant_key(mark, memory.ledger, maker),
        mark=mark,
        ordinal=next_ordinal(memory.ledger),
        step=question.step,
        text=msgspec.json.encode({"type": "text", "text": text}) if text else b"",
        system=config.injection.role is Role.SYSTEM and here == len(request) - 1,
        history=packed,
        tokens=estimate(text) + estimate(packed.decode()),
        claims=claims(selection),
    )


async def inject(
    services: Services, question: Question, memory: Memory, injection: Injection, chosen: Chosen, lease: Lease
) -> Prompt:
    """Freeze the new entry and build the body that goes to Claude. An entry that can be frozen nowhere is not sent."""
    injection.unsaved = _perhaps_only_hot(question.request, memory, injection.replay)
    maker = question.step if services.config.many_heads or lease.degraded else ""
    injection.chosen = chosen
    entry = plan(services.config, question, memory, injection, chosen.selection, maker)
    if entry is not None and (entry.text or entry.history):
        injection.new = await freeze(services, question, memory, injection, entry, lease)
    else:
        injection.nothing = entry
    body = assemble(question.request, injection.entries)
    betas: tuple[str, ...] = ()
    injection.lacking = may_lack_entries(services.config, question.request, memory)
    if question.request.carries_thinking and injection.lacking:
        # Thinking that no longer fits is better dropped than refused.
        body, betas = _drop_blocks(question.request, body), (DROP_BLOCK_BETA,)
        services.metrics.dropped_blocks.inc()
    if injection.new is not None:
        services.metrics.injected_tokens.inc(injection.new.tokens)
    if injection.replay.entries:
        services.metrics.replayed_tokens.inc(injection.replay.tokens)
    injection.receipt = _receipt(question, memory, injection, lease, dropped=bool(betas))
    return Prompt(body, betas, receipt(injection.receipt))


def may_lack_entries(config: SidecarConfig, request: MessagesRequest, memory: Memory) -> bool:
    """Whether the client may have been answered with prompts that are not those which are known here: its state tier is
    away; another region answered last, and its item, or an entry that lies beside it, has not come over; or that was so
    when an earlier reply was made, whose thinking is bound to a prompt without what has come since."""
    if memory.tier is Tier.NONE:
        return True
    if not config.many_heads or not request.has_assistant:
        return False
    own, newest = request.chain.places, request.mark_of_last_assistant()
    made = [reply for reply in memory.item.replies if reply.mark in own]
    if all(reply.mark != newest for reply in made):
        return True
    return any(
        reply.lacking or any(key not in memory.ledger for key in (*reply.rounds, reply.entry) if key) for reply in made
    )


def _perhaps_only_hot(request: MessagesRequest, memory: Memory, replay: Replay) -> dict[str, bytes]:
    """The replayed entries behind the newest committed reply: a killed attempt left its own in the hot tier alone."""
    place = request.chain.find(memory.item.mark) if memory.item.mark else None
    marks = {mark for row in request.chain.marks[place[0] + 1 if place else 0 :] for mark in row}
    return {entry.key: pack(entry) for entry in replay.entries if entry.place in marks}


def _receipt(
    question: Question, memory: Memory, injection: Injection, lease: Lease, *, dropped: bool
) -> dict[str, str]:
    chosen = injection.chosen
    new = injection.new.tokens if injection.new else 0
    said = {
        "session": question.label,
        "tier": memory.tier.value,
        "state-version": str(memory.versions.version),
        "state-tokens": str(
            estimate(memory.item.state.decode()) if question.owns_state else chosen.selection.state_tokens
        ),
        "injected-tokens": str(new),
        "replayed-tokens": str(injection.replay.tokens),
    }
    flags = [name for name, on in (
        ("degraded", lease.degraded), ("fresh", bool(injection.new and injection.new.history)),
        ("thinking-may-drop", dropped), ("not-remembered", not memory.remembers),
        ("stale", bool(memory.stale_by))) if on]  # fmt: skip
    if len(question.homes.homes) > 1 or question.homes.missing:
        said["scopes"] = ",".join(dict.fromkeys(home.kind for home in question.homes.homes if home.reads))
    if question.homes.missing:
        said["scopes-missing"] = ",".join(question.homes.missing)
    if chosen.by:
        said["filter"] = chosen.by
    if chosen.fallback:
        said["filter-fallback"] = chosen.fallback
    if memory.stale_by:
        said["stale-by"] = str(memory.stale_by)
    return said | ({"flags": ",".join(flags)} if flags else {})


async def freeze(
    services: Services, question: Question, memory: Memory, injection: Injection, entry: Entry, lease: Lease
) -> Entry | None:
    """Keep an entry before anything that depends on it is sent; returns the one that stands, None where none could be
    kept."""
    data = pack(entry)
    conversation = question.conversation
    try:
        if lease.degraded:
            return entry if await _freeze_with_lock(memory, lease, entry.key, data) else None
        try:
            standing = await services.hot.freeze(conversation, entry.key, data)
            memory.in_hot.add(entry.key)
            injection.unsaved[entry.key] = standing
        except StoreUnavailable:
            services.hot_health.failed()
            # The hot tier may be back before this step ends, and must not take its copy for current then.
            lease.intact = False
            standing = (await services.state.add_entries(conversation, {entry.key: data}))[entry.key]
    except StoreUnavailable:
        return None
    return unpack(standing)


async def _freeze_with_lock(memory: Memory, lease: Lease, key: str, data: bytes) -> bool:
    """False where the lock is not ours any more, and the step cannot be saved either."""
    before, stored = lease.stored, await lease.keep({key: data})
    if stored is None:
        return False
    if before is not None and (stored.versions.turn, stored.body) == (before.versions.turn, before.body):
        # Nothing but the version has moved; what else has will be met at commit.
        memory.versions = replace(memory.versions, version=stored.versions.version)
    return True


def _drop_blocks(request: MessagesRequest, body: bytes) -> bytes:
    """Ask Claude to drop thinking blocks whose prefix has changed: what was put in before them cannot be repeated."""
    top = members(body, Span(0, len(body)))
    wanted = b'"block_binding":{"prefix_mismatch_behavior":"drop_block"}'
    if "thinking" not in top:
        return body
    with contextlib.suppress(msgspec.DecodeError):
        inner = members(body, top["thinking"])
        if "block_binding" not in inner:
            at = top["thinking"].end - 1
            return splice(body, [(at, (b"," if inner else b"") + wanted)])
    return body
