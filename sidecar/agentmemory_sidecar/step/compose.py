"""Compose: the next item from the one before and a finished step. No input or output here.

Composed again from a newer item when another writer was faster, so it takes everything it needs and changes nothing.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from agentmemory_sidecar.archive.blobs import Drafts
from agentmemory_sidecar.archive.record import Payload
from agentmemory_sidecar.memory import rules
from agentmemory_sidecar.memory.extraction.unread import Unread, with_turn
from agentmemory_sidecar.memory.form import Refused, form_of
from agentmemory_sidecar.memory.item import KEPT_STEPS, Item, Outgoing
from agentmemory_sidecar.memory.ledger import Made
from agentmemory_sidecar.memory.pointer import covers
from agentmemory_sidecar.memory.rebase import rebase
from agentmemory_sidecar.memory.state import Patch, encode_patch
from agentmemory_sidecar.memory.together import Reading, origins, shared_out
from agentmemory_sidecar.memory.tool import POINTER
from agentmemory_sidecar.memory.verdict import Verdict
from agentmemory_sidecar.memory.window import add_step, called
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.step import build, heads
from agentmemory_sidecar.step.hydrate import Memory
from agentmemory_sidecar.step.inject import Injection, begins
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.selector import reasons
from agentmemory_sidecar.stores.protocols import Conversation, Versions
from agentmemory_sidecar.wire.canonical import block_digests, extend
from agentmemory_sidecar.wire.events import Reply
from agentmemory_sidecar.wire.request import MessagesRequest


@dataclass(slots=True)
class Finished:
    """A step that Claude answered, ready to be saved."""

    question: Question
    memory: Memory
    injection: Injection
    reply: Reply
    verdict: Verdict
    patch: Patch
    place: build.Place
    drafts: Drafts
    spilled: list[Outgoing] = field(default_factory=list)


def next_item(config: SidecarConfig, archived: int, finished: Finished, base: Item, versions: Versions) -> Item:
    """The item after this step, on top of ``base``, which may be newer than what the step read.

    ``archived`` is the sequence up to which the conversation's records are known to be in the archive.
    """
    question, request = finished.question, finished.question.request
    reply, drafts, place = finished.reply, finished.drafts, finished.place
    threshold = config.blob_threshold_bytes
    item = build.fresh_copy(base)
    item.subject = place.key.subject
    who = question.identity
    item.user, item.project, item.agent_type, item.groups = who.user, who.project, who.agent_type, list(who.groups)
    item.created_at, item.updated_at = item.created_at or place.now, place.now
    # One whose bytes wait in chunk items stays until the sweep has carried it and taken the chunks away.
    item.outbox = [record for record in item.outbox if record.seq > archived or not record.data]
    applied, own = _apply_patch(config, finished, base, item, versions, threshold)
    if config.many_heads:
        heads.record(config, place.head, item, build.linked_patch(own, threshold, drafts))

    before = base.mark
    start = first_new(request, before)
    turn_id = question.identity.turn_hint or question.step
    if finished.verdict.commit:
        turns = add_step(
            base.window, request.messages(start), reply.content, starts=request.starts_turn, ends=finished.verdict.ends,
            hint=turn_id, keep=config.window.turns,
        )  # fmt: skip
        turn_id = turns[-1].id
        build.set_window(item, turns, threshold, drafts, base.window)
        item.mark = mark_with(question, reply)
        entry = finished.injection.here(request)
        lacking = finished.injection.lacking
        rounds = tuple(one.key for one in finished.injection.rounds)
        item.remember(Made(reply.id, item.mark, request.chain.last, entry, begins(question), lacking, rounds))
        item.entries = len(finished.memory.ledger.keys() | {entry.key for entry in finished.injection.made})
        item.own_memory_tool |= finished.injection.own_tool
        build.set_last(item, question, reply, place, threshold, drafts)
    item.steps = [*item.steps, question.step][-KEPT_STEPS:]

    build.add_notes(item, place, finished.memory.notes, versions)
    payload = Payload(
        step=question.step, turn_id=turn_id, request_class=question.identity.request_class.value, model=request.model,
        prefix=before, messages=_new_messages(request, start, threshold, drafts),
        response=build.linked_json(reply.encoded, threshold, drafts), usage=reply.usage,
        patch=build.linked(msgspec.to_builtins(applied), threshold, drafts) if applied.operations else None,
        injected=_injected(finished.injection, finished.memory.reading),
        latency_ms={"total": question.elapsed_ms()},
    )  # fmt: skip
    record = build.add_record(item, place, "step", payload, versions, drafts.keys)
    if finished.verdict.commit:
        if all(turn.id != turn_id for turn in base.window):
            item.began = record.seq
        ended = Unread(turn_id, place.now, item.began or record.seq, record.seq)
        item.unread = _unread(config, finished.verdict, item.unread, ended)
    return item


def _unread(config: SidecarConfig, decided: Verdict, unread: list[Unread], ended: Unread) -> list[Unread]:
    """The turns that a model is still to read. Of one whose end was cut off nothing is learnt, as its calls change
    nothing."""
    if config.extraction.sub_agent is None:
        return []
    return with_turn(unread, ended) if decided.ends and decided.apply else unread


def _injected(injection: Injection, reading: Reading | None) -> dict[str, Any]:
    """What the client does not know of, for the record."""
    told: dict[str, Any] = {"receipt": injection.receipt, "texts": injection.new_texts, **reasons(injection.chosen)}
    if reading is not None and len(reading.homes.homes) > 1 and "in" in told:
        told["whose"] = origins(reading)
    if hidden := [entry.round for entry in injection.rounds if entry.round is not None]:
        told["rounds"] = [
            {"calls": [msgspec.Raw(call) for _, call in one.calls], "results": msgspec.Raw(b"[" + one.results + b"]")}
            for one in hidden
        ]
    return told


def _apply_patch(
    config: SidecarConfig, finished: Finished, base: Item, item: Item, versions: Versions, threshold: int
) -> tuple[Patch, Patch]:
    """Change the states as the patch says: the conversation's own in ``item``, others by way of its outbox. Returns what was
    applied or sent, and what of it was applied in ``item``."""
    patch, question, reading = finished.patch, finished.question, finished.memory.reading
    done = own = Patch.none(question.step)
    if not patch.operations:
        return done, own
    if reading is None:
        shares: tuple[tuple[Conversation, dict[str, Any], Patch], ...] = (
            (question.conversation, finished.memory.state, patch),
        )
    else:
        patches, wrong = shared_out(patch, reading)
        if wrong:
            _refuse(item, finished, patch, wrong, versions)
            patches, wrong = shared_out(_files_of(patch), reading)
            if wrong:
                return done, own
        owners = [home.owner for home in question.homes.homes]
        shares = tuple(zip(owners, reading.parts, patches, strict=True))
    for owner, state, share in shares:
        if not share.operations:
            continue
        if owner == question.conversation:
            newer = build.state_of(base, config, question.identity.user)
            if form_of(config).knows(newer):
                own = _landed(config, finished, share, base, newer, item, versions, threshold)
                done = _both(done, own)
                continue
        whole = build.linked_patch(share, threshold, finished.drafts)
        seen = state or form_of(config).beginning(question.identity.user)
        build.send_patch(item, config, question.conversation, owner, seen, whole)
        done = _both(done, share)
    return done, own


def _both(one: Patch, other: Patch) -> Patch:
    return msgspec.structs.replace(other, operations=(*one.operations, *other.operations))


def _files_of(patch: Patch) -> Patch:
    """What of a patch Claude was told is saved: its files."""
    files = tuple(operation for operation in patch.operations if covers(POINTER, operation.pointer))
    return msgspec.structs.replace(patch, operations=files)


def _refuse(
    item: Item, finished: Finished, patch: Patch, wrong: tuple[dict[str, str], ...], versions: Versions
) -> None:
    """Keep a patch that may not be applied, without its files, to be shown."""
    rest = tuple(operation for operation in patch.operations if not covers(POINTER, operation.pointer))
    refused = Refused(msgspec.structs.replace(patch, operations=rest), wrong)
    build.add_conflict(item, finished.question.step, versions, refused.encoded())


def _landed(
    config: SidecarConfig,
    finished: Finished,
    patch: Patch,
    base: Item,
    newer: dict[str, Any],
    item: Item,
    versions: Versions,
    threshold: int,
) -> Patch:
    """Apply the patch to the state of ``base``, which is ``newer``; returns what of it was applied."""
    step = finished.question.step
    was_read = finished.memory.item
    read = newer if base is was_read else build.state_of(was_read, config, finished.question.identity.user)
    rebased = rebase(read, newer, patch)
    if wrong := form_of(config).refusal(newer, rebased.state):
        _refuse(item, finished, patch, wrong, versions)
        patch = _files_of(patch)  # no schema speaks of them
        if not patch.operations:
            return Patch.none(step)
        rebased = rebase(read, newer, patch)
    if rebased.conflict is not None:
        build.add_conflict(item, step, versions, rebased.conflict_json())
    if not build.set_state(item, rebased.state, threshold, finished.drafts, limit=build.state_limit(config)):
        build.add_conflict(item, step, versions, encode_patch(patch))
        return Patch.none(step)
    return build.with_migration(config, base, newer, rebased.applied)


def first_new(request: MessagesRequest, mark: str) -> int:
    """Index of the first message that the record before does not hold: behind the mark of the newest reply."""
    if not mark or request.continues_thread:
        return 0
    place = request.chain.find(mark)
    return place[0] + 1 if place else 0


def mark_with(question: Question, reply: Reply) -> str:
    """The mark of the client's messages with this reply behind them."""
    row = extend(question.request.chain.last, block_digests("assistant", reply.content))
    return row[-1] if row else question.request.chain.last


def patch_of(extraction: rules.Rules, question: Question, memory: Memory, reply: Reply) -> Patch:
    """What the rules make of this step's tool calls, and of the results that it brought."""
    calls = [block for block in reply.content if isinstance(block, dict) and block.get("type") == "tool_use"]
    start = first_new(question.request, memory.item.mark)
    results: list[rules.ToolResult] = []
    if _brings_results(new := question.request.messages(start)):
        # A result answers a call of the message right before it, as the API demands.
        near = question.request.messages(max(0, start - 1))
        results = rules.results_of(new, near, called(memory.item.window))
    if not calls and not results:
        return Patch.none(question.step)
    return rules.patch_from(question.step, calls, results, extraction, memory.state)


def _brings_results(messages: list[Any]) -> bool:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") == "tool_result":
                return True
    return False


def _new_messages(request: MessagesRequest, start: int, threshold: int, drafts: Drafts) -> list[Any]:
    """Messages for the record: the client's own bytes where none of them can hold a big value."""
    if sum(request.sizes[start:]) <= threshold:
        return [msgspec.Raw(request.raw(index)) for index in range(start, len(request))]
    return [build.linked(message, threshold, drafts) for message in request.messages(start)]
