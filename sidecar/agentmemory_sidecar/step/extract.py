"""One extraction: unread turns are read, a model is asked, and what it learnt is written in one conditional write,
which also takes the turns out of those that are unread. Killed anywhere, it has happened or it has not.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from agentmemory_sidecar.archive.blobs import BlobReader, Drafts
from agentmemory_sidecar.archive.reader import RecordReader
from agentmemory_sidecar.archive.record import Payload
from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.extraction import changes as wanted
from agentmemory_sidecar.memory.extraction import provenance
from agentmemory_sidecar.memory.extraction.prompt import Batch, known_of, told
from agentmemory_sidecar.memory.extraction.unread import Unread, fitting, spend, spent_today, tomorrow
from agentmemory_sidecar.memory.form import Refused, form_of
from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.memory.rebase import rebase
from agentmemory_sidecar.memory.scopes import Home, homes_of_item
from agentmemory_sidecar.memory.state import Operation, Patch, State, apply_one, encode_patch, same
from agentmemory_sidecar.memory.together import Reading, read, shared_out
from agentmemory_sidecar.memory.verdict import verdict
from agentmemory_sidecar.memory.window import Turn, add_step
from agentmemory_sidecar.resource.config import LearnerConfig
from agentmemory_sidecar.step import build, heads
from agentmemory_sidecar.step.budget import Budget
from agentmemory_sidecar.step.hydrate import read_state
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.step.writing import change, place_of, save
from agentmemory_sidecar.stores.protocols import Conversation, StaleWrite, StoreUnavailable, Versions

TRIES = 10
PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Learnt:
    """A model's answer."""

    changes: Sequence[wanted.Change]
    usage: dict[str, Any]
    """As the API tells it."""
    tokens: int
    """All that it took, input and output."""


class NotLearnt(Exception):
    """There is no answer that can be used. ``reason`` is a word for a metric; ``of_the_turns`` says that the turns may
    be why, so that others are read without them; ``tokens`` is what it took all the same."""

    def __init__(self, reason: str, *, of_the_turns: bool = False, tokens: int = 0, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.of_the_turns, self.tokens, self.after_s = reason, of_the_turns, tokens, after_s


class Learner(Protocol):
    """A model that reads turns."""

    async def learn(self, batch: Batch) -> Learnt:
        """Raises NotLearnt."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an extraction."""

    outcome: str
    """``written``, ``nothing`` (no turn was unread), ``overtaken``, ``newer_form``, ``session_limit`` or ``limit``."""
    turns: int = 0
    """How many are read now."""
    unread: tuple[Unread, ...] = ()
    """Those that are left."""
    again_at: float = 0.0
    """When there is a use in the next try (seconds since the epoch)."""
    changes: int = 0
    refused: tuple[str, ...] = ()
    """The rules by which changes were refused."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """Turns that were taken to be read."""

    unread: tuple[Unread, ...]
    batch: Batch
    reading: Reading | None
    """The state that they were read beside; None where nothing is learnt from them."""
    model: str

    @property
    def ends(self) -> list[tuple[str, float]]:
        return [(one.turn, one.at) for one in self.unread]


async def extract(services: Services, learner: Learner, budget: Budget, conversation: Conversation, most: int) -> Done:
    """Read at most so many of a conversation's unread turns.

    Raises NotLearnt, StoreUnavailable, KeyUnavailable, UnknownFormat.
    """
    config = services.config.extraction.sub_agent
    assert config is not None
    item = heads.whole(services.config, services.state.head, await services.state.read(conversation))
    if not item.unread:
        return Done("nothing")
    homes = homes_of_item(services.config, conversation, item)
    own = build.state_as_read(services.config, item, conversation, conversation, item)
    reading = await read_state(services, homes, conversation, item, own)
    if not all(map(form_of(services.config).knows, reading.parts)):
        return Done("newer_form", unread=tuple(item.unread))
    taken = await _taken(services, config, conversation, item, reading, most)
    if not taken.batch.turns:
        return await _write(services, config, conversation, taken, Learnt((), {}, 0))
    now, tokens = services.now(), taken.batch.tokens + config.max_tokens
    if spent_today(item.extracted, now) + tokens > config.session_tokens_per_day:
        return Done("session_limit", unread=tuple(item.unread), again_at=tomorrow(now))
    if not await budget.take(services.state, tokens):
        return Done("limit", unread=tuple(item.unread), again_at=tomorrow(now))
    used = tokens
    try:
        learnt = await learner.learn(taken.batch)
        used = learnt.tokens
    except NotLearnt as error:
        used = error.tokens
        raise
    finally:
        budget.give_back(tokens - used)
    return await _write(services, config, conversation, taken, learnt)


async def give_up(services: Services, conversation: Conversation, turn: str, why: str) -> None:
    """Take a turn out that no answer can be had about. Raises what ``extract`` raises, but NotLearnt."""
    config = services.config.extraction.sub_agent
    assert config is not None
    item = heads.whole(services.config, services.state.head, await services.state.read(conversation))
    unread = tuple(one for one in item.unread if one.turn == turn)
    if unread:
        taken = _Taken(unread, Batch((), "", ()), None, config.model)
        await _write(services, config, conversation, taken, Learnt((), {}, 0), why)


async def _taken(
    services: Services, config: LearnerConfig, conversation: Conversation, item: Item, reading: Reading, most: int
) -> _Taken:
    texts = []
    for number, one in enumerate(item.unread[:most], 1):
        turn = await _turn(services, conversation, item, one)
        texts.append(told(turn, number, _moment(one.at), tool_results=config.tool_results) if turn else "")
    count = fitting(texts)
    closed = _terms(services, config).closed
    turns = tuple(text for text in texts[:count] if text)
    seen = reading.state or form_of(services.config).beginning(item.user)
    batch = Batch(config.writes, known_of(seen, config.writes, closed, turns), turns)
    return _Taken(tuple(item.unread[:count]), batch, reading, config.model)


async def _turn(services: Services, conversation: Conversation, item: Item, unread: Unread) -> Turn | None:
    """A turn from the window, or from the archive where the window has let it go or keeps only beginnings of what was said.
    None where neither has it."""
    found = next((turn for turn in reversed(item.window) if turn.id == unread.turn), None)
    if found is not None and not any(line.blob for line in found.lines):
        return found
    config = services.config
    blobs = BlobReader(config.tenant, services.keys, services.blobs, services.state)
    reader = RecordReader(services.records, services.state, services.keys, blobs)
    turns: list[Turn] = []
    for seq in range(unread.first or unread.last, unread.last + 1):
        record = await reader.one(conversation, item, services.writer, seq)
        payload = record.payload if record is not None else None
        if payload is None or payload.turn_id != unread.turn or not isinstance(payload.response, dict):
            continue
        decided = verdict(str(payload.response.get("stop_reason")))
        turns = add_step(
            turns, payload.messages, payload.response.get("content") or [], starts=not turns, ends=decided.ends,
            hint=unread.turn, keep=1,
        )  # fmt: skip
    return turns[-1] if turns else found


async def _write(
    services: Services, config: LearnerConfig, conversation: Conversation, taken: _Taken, learnt: Learnt, why: str = ""
) -> Done:
    patch_id, pause = f"extract-{secrets.token_hex(8)}", PAUSE_S
    done, sent = Done("overtaken"), False
    for _ in range(TRIES):
        stored = await services.state.read(conversation)
        item = heads.whole(services.config, services.state.head, stored)
        if patch_id in item.steps:
            break  # the answer to the write was lost
        if not set(taken.unread) <= set(item.unread):
            return Done("overtaken", unread=tuple(item.unread))
        place, drafts = await place_of(services, conversation, item)
        new = Versions(stored.versions.turn, stored.versions.version + 1)
        before = len(item.patches)
        written = _learn(services, config, place, drafts, item, taken, learnt, new, patch_id)
        sent = len(item.patches) > before
        item.unread = [one for one in item.unread if one not in taken.unread]
        item.extracted = spend(item.extracted, services.now(), learnt.tokens)
        done = Done(
            "written", len(taken.unread), tuple(item.unread), 0.0, len(written.sources),
            tuple(one["rule"] for one in written.allowed.refused),
        )  # fmt: skip
        payload = _payload(services, drafts, patch_id, taken, learnt, written, why)
        try:
            await save(services, place, drafts, item, stored.versions, payload)
        except StaleWrite:
            continue
        except StoreUnavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
            continue
        break
    else:
        raise StoreUnavailable("state", "what was extracted could not be written", definite=False)
    if sent:
        services.tasks.start(services.patches.apply(conversation), "apply what was extracted")
    return done


@dataclass(frozen=True, slots=True)
class _Written:
    allowed: wanted.Allowed
    patch: Patch
    """What was applied, or is on its way."""
    sources: dict[str, provenance.Note]


def _learn(
    services: Services, config: LearnerConfig, place: build.Place, drafts: Drafts, item: Item, taken: _Taken,
    learnt: Learnt, new: Versions, patch_id: str,
) -> _Written:  # fmt: skip
    """Change the states by what was learnt: the conversation's own in ``item``, which may be newer than the one that the
    turns were read beside, others by way of its outbox."""
    if taken.reading is None or not learnt.changes:
        return _Written(wanted.Allowed(), Patch.none(patch_id), {})
    homes, conversation = taken.reading.homes, place.conversation
    newer = build.state_of(item, services.config, item.user)
    parts = [
        newer if home.owner == conversation else part
        for home, part in zip(homes.homes, taken.reading.parts, strict=True)
    ]
    beginning = form_of(services.config).beginning(item.user)
    reading = read(homes, parts, beginning, services.config.filter.never_in_prompt)
    allowed, patch = _patch(services, config, item, reading, learnt, new, patch_id)
    shares, wrong = shared_out(patch, reading)
    if wrong:
        build.add_conflict(item, patch_id, new, Refused(patch, wrong).encoded())
        return _Written(allowed, Patch.none(patch_id), {})
    done: list[Operation] = []
    sources: dict[str, provenance.Note] = {}
    for index, (home, seen, part, share) in enumerate(
        zip(homes.homes, taken.reading.parts, parts, shares, strict=True)
    ):
        mine = [one for one in allowed.changes if not home.at and homes.of(one.pointer) == index]
        if not share.operations:
            continue
        if home.owner == conversation:
            operations, its = _here(services, place, drafts, item, share, mine, seen or beginning, part, taken, new)
        else:
            operations, its = _sent(services, place, drafts, item, share, mine, home, part or beginning, taken)
        done += operations
        sources |= its
    return _Written(allowed, Patch(patch_id, wanted.SOURCE, tuple(done)), sources)


_Made = tuple[tuple[Operation, ...], dict[str, provenance.Note]]
"""What was applied or sent, and where its facts came from."""


def _here(
    services: Services, place: build.Place, drafts: Drafts, item: Item, share: Patch, mine: Sequence[wanted.Change],
    seen: State, newer: State, taken: _Taken, new: Versions,
) -> _Made:  # fmt: skip
    rebased = rebase(seen, newer, share)
    if rebased.conflict is not None:
        build.add_conflict(item, share.id, new, rebased.conflict_json())
    if not rebased.applied.operations:
        return (), {}
    state, noted, sources = _noted(rebased.state, mine, taken)
    whole = msgspec.structs.replace(rebased.applied, operations=(*rebased.applied.operations, *noted))
    whole = build.with_migration(services.config, item, newer, whole)
    if wrong := form_of(services.config).refusal(newer, state):
        build.add_conflict(item, share.id, new, Refused(rebased.applied, wrong).encoded())
        return (), {}
    if not change(services, place, drafts, item, state, whole):
        build.add_conflict(item, share.id, new, encode_patch(rebased.applied))
        return (), {}
    return whole.operations, sources


def _sent(
    services: Services, place: build.Place, drafts: Drafts, item: Item, share: Patch, mine: Sequence[wanted.Change],
    home: Home, seen: State, taken: _Taken,
) -> _Made:  # fmt: skip
    """Put the change into the conversation's outbox: it goes where the state is, and lands there once."""
    _, noted, sources = _noted(wanted.applied(seen, mine), mine, taken)
    whole = msgspec.structs.replace(share, operations=(*share.operations, *noted))
    linked = build.linked_patch(whole, services.config.blob_threshold_bytes, drafts)
    build.send_patch(item, services.config, place.conversation, home.owner, seen, linked)
    return whole.operations, sources


def _patch(
    services: Services,
    config: LearnerConfig,
    item: Item,
    reading: Reading,
    learnt: Learnt,
    new: Versions,
    patch_id: str,
) -> tuple[wanted.Allowed, Patch]:
    """What may be changed of a state. What does not fit its form is kept as a conflict."""
    state = reading.state or form_of(services.config).beginning(item.user)
    found = wanted.allowed(learnt.changes, state, _terms(services, config))
    for one in [one for one in found.changes if not reading.homes.may_write(one.pointer)]:
        found.changes.remove(one)
        found.refuse(one.pointer, "grant", "no grant lets this conversation change it")
    found, misfits, wrong = wanted.fitting(found, state, form_of(services.config))
    if misfits:
        refused = Patch(patch_id, wanted.SOURCE, tuple(misfits))
        build.add_conflict(item, patch_id, new, Refused(refused, wrong).encoded())
    merge = Operation("merge", "", wanted.merge_patch(found.changes))
    return found, Patch(patch_id, wanted.SOURCE, (merge,) if found.changes else ())


def _noted(
    state: State, changes: Sequence[wanted.Change], taken: _Taken
) -> tuple[State, tuple[Operation, ...], dict[str, provenance.Note]]:
    """The changed state with where its facts came from, what notes that, and of which changes."""
    made = [one for one in changes if _stands(state, one)]
    sources = wanted.sources(made, taken.ends)
    operation = provenance.noting(state, sources.values())
    if operation is None:
        return state, (), sources
    return apply_one(state, operation), (operation,), sources


def _stands(state: State, made: wanted.Change) -> bool:
    found = ptr.get(state, made.pointer)
    return found is ptr.ABSENT if made.value is None else found is not ptr.ABSENT and same(found, made.value)


def _terms(services: Services, config: LearnerConfig) -> wanted.Terms:
    chosen = services.config.filter
    return wanted.terms_of(config.writes, chosen.pinned, chosen.never_in_prompt)


def _payload(
    services: Services, drafts: Drafts, patch_id: str, taken: _Taken, learnt: Learnt, written: _Written, why: str
) -> Payload:
    patch = written.patch if written.patch.operations else None
    return Payload(
        step=patch_id,
        turn_id=taken.unread[-1].turn,
        model=taken.model,
        usage=learnt.usage,
        patch=build.linked(msgspec.to_builtins(patch), services.config.blob_threshold_bytes, drafts) if patch else None,
        outcome=why,
        extracted={
            "turns": [one.turn for one in taken.unread],
            "from": [note._asdict() for note in written.sources.values()],
            "refused": written.allowed.refused,
        },
    )


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
