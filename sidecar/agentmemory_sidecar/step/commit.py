"""Commit: blobs and ledger entries, then one conditional write of the item, then the hot copy with the lock's release.

The write says what it read. Where it is refused, the item is read and looked through for this step's own id before
anything else: an answer that was lost is not a refusal. A step whose ``turn`` has moved is fenced. Where only ``version``
has moved the item is built again on the newer one.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agentmemory_sidecar.archive.blobs import Drafts
from agentmemory_sidecar.archive.record import Payload
from agentmemory_sidecar.memory import links, rules
from agentmemory_sidecar.memory.item import KEPT_STEPS, Item, Outgoing, pack, unpack
from agentmemory_sidecar.memory.ledger import Made
from agentmemory_sidecar.memory.ledger import pack as pack_entry
from agentmemory_sidecar.memory.rebase import rebase
from agentmemory_sidecar.memory.state import Patch, empty, encode_patch, from_json
from agentmemory_sidecar.memory.verdict import Verdict, verdict
from agentmemory_sidecar.memory.window import add_step, called
from agentmemory_sidecar.resource.session import LockScope
from agentmemory_sidecar.resource.state import StateUnavailable
from agentmemory_sidecar.step import build
from agentmemory_sidecar.step.acknowledge import kept_alive
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.step.exchange import Client
from agentmemory_sidecar.step.forward import Answer
from agentmemory_sidecar.step.hydrate import Memory
from agentmemory_sidecar.step.inject import Injection, begins
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import ABSENT, HotCopy, StaleWrite, StoreUnavailable, Versions
from agentmemory_sidecar.wire.canonical import extend
from agentmemory_sidecar.wire.errors import fenced, memory_unavailable
from agentmemory_sidecar.wire.events import Reply

TRIES = 8
PAUSE_S = 0.1
"""The first pause between tries to reach the state tier; it doubles."""


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


@dataclass(frozen=True, slots=True)
class Written:
    """What the item became."""

    versions: Versions
    item: Item
    body: bytes


async def commit(
    services: Services,
    question: Question,
    memory: Memory,
    injection: Injection,
    answer: Answer,
    lease: Lease,
    client: Client,
) -> None:
    """Save the step if it succeeded, and release its lock; leaves the outcome in the answer.

    Raises ApiError: 409 where the step was fenced, 503 where the state tier was lost and the resource does not let the
    agent go on without it.
    """
    if answer.reply is None:
        return
    with kept_alive(client, services):
        answer.outcome = await _outcome(services, question, memory, injection, answer.reply, lease)
    services.metrics.turns.labels(answer.outcome["commit"]).inc()


async def _outcome(
    services: Services, question: Question, memory: Memory, injection: Injection, reply: Reply, lease: Lease
) -> dict[str, str]:
    decided = verdict(reply.stop_reason)
    if not memory.remembers:
        return {"commit": "not-remembered"}
    try:
        written = await _save(services, question, memory, injection, reply, decided, lease)
    except StoreUnavailable as error:
        services.metrics.state_unavailable.inc()
        if services.config.on_state_unavailable is StateUnavailable.REFUSE:
            raise memory_unavailable("state tier", sent=True) from error
        return {"commit": "not-remembered"}
    await _publish(services, question, memory, decided, lease, written)
    services.archiver.submit(question.conversation, [record for record in written.item.outbox if record.data])
    if written.item.patches:
        services.tasks.start(services.patches.apply(question.conversation), "apply a subagent's patches")
    said = "committed" if decided.commit else "archived"
    return {"commit": said, "turn": str(written.versions.turn), "version": str(written.versions.version)}


async def _save(
    services: Services,
    question: Question,
    memory: Memory,
    injection: Injection,
    reply: Reply,
    decided: Verdict,
    lease: Lease,
) -> Written:
    key = await services.keys.key(question.identity.tenant, memory.item.subject or question.identity.subject)
    place = build.Place(question.conversation, services.config.region, key, services.now())
    drafts = Drafts(question.identity.tenant, key)
    patch = _patch(services, question, memory, injection, reply) if decided.apply else Patch.none(question.step)
    finished = Finished(question, memory, injection, reply, decided, patch, place, drafts)
    if injection.saved is not None:
        await injection.saved
    base, versions = memory.item, memory.versions
    if versions == ABSENT:
        await services.state.index(question.identity.tenant, key.subject, question.identity.session)
    pause = PAUSE_S
    for attempt in range(TRIES):
        new = Versions(versions.turn + 1, versions.version + 1)
        item = next_item(services, finished, base, new)
        body = build.shrink(item, finished.spilled.append, drafts)
        try:
            await _write_values(services, finished)
            item.blobs = [*item.blobs, *(name for name in drafts.waiting if name not in item.blobs)]
            body = pack(item) if drafts.waiting else body
            lease.intact = False
            await services.state.write(
                question.conversation, body, expect=versions, new=new, pending=item.pending,
                token=lease.token if lease.degraded else "", ttl_s=services.state_ttl_s,
            )  # fmt: skip
            return Written(new, item, body)
        except StaleWrite:
            pass
        except StoreUnavailable:
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
        try:
            stored = await services.state.read(question.conversation)
        except StoreUnavailable:
            continue
        found = unpack(stored.body)
        if question.step in found.steps:
            return Written(stored.versions, found, stored.body)
        if stored.versions.turn != versions.turn:
            services.metrics.fenced.inc()
            raise fenced()
        base, versions = found, stored.versions
    raise StoreUnavailable("state", "the item kept changing", definite=False)


def next_item(services: Services, finished: Finished, base: Item, versions: Versions) -> Item:
    """The item after this step, on top of ``base``, which may be newer than what the step read."""
    config, question, request = services.config, finished.question, finished.question.request
    reply, drafts, place = finished.reply, finished.drafts, finished.place
    threshold = config.blob_threshold_bytes
    item = build.fresh_copy(base)
    item.subject = place.key.subject
    item.user, item.project = question.identity.user, question.identity.project
    item.created_at, item.updated_at = item.created_at or place.now, place.now
    archived = services.archiver.archived(question.conversation)
    item.outbox = [record for record in item.outbox if record.seq > archived]
    applied = _apply_patch(config.schema_version, finished, base, item, versions, threshold)

    before = base.mark
    new_messages = request.messages[first_new(request, before) :]
    turn_id = question.identity.turn_hint or question.step
    if finished.verdict.commit:
        turns = add_step(
            base.window, new_messages, reply.content, starts=request.starts_turn, ends=finished.verdict.ends,
            hint=turn_id, keep=config.window.turns,
        )  # fmt: skip
        turn_id = turns[-1].id
        build.set_window(item, turns, threshold, drafts)
        item.mark = mark_with(question, reply)
        entry = finished.injection.here(request)
        item.remember(Made(reply.id, item.mark, request.chain.last, entry, begins(question)))
        item.entries = len(finished.memory.ledger) + (1 if finished.injection.new else 0)
        build.set_last(item, question, reply, place, threshold, drafts)
    item.steps = [*item.steps, question.step][-KEPT_STEPS:]

    build.add_notes(item, place, finished.memory.notes, versions)
    payload = Payload(
        step=question.step, turn_id=turn_id, request_class=question.identity.request_class.value, model=request.model,
        prefix=before, messages=build.linked(new_messages, threshold, drafts),
        response=build.linked(reply.message, threshold, drafts), usage=reply.usage,
        patch=build.linked(msgspec.to_builtins(applied), threshold, drafts) if applied.operations else None,
        injected={"receipt": finished.injection.receipt, "texts": finished.injection.new_texts},
        latency_ms={"total": question.elapsed_ms()},
    )  # fmt: skip
    record_links = links.keys([payload.messages, payload.response, payload.patch])
    build.add_record(item, place, "step", payload, versions, sorted(record_links))
    return item


def _apply_patch(
    schema_version: str, finished: Finished, base: Item, item: Item, versions: Versions, threshold: int
) -> Patch:
    """Change the state in ``item`` as the patch says; returns what was applied."""
    patch, place = finished.patch, finished.place
    if not patch.operations:
        return patch
    if not finished.question.is_root:
        build.add_patch_for_session(item, encode_patch(patch))
        return patch

    def state_of(one: Item) -> dict[str, Any]:
        if one.state:
            return from_json(one.state, region=place.region)
        return empty(finished.question.identity.user, schema_version)

    newer = state_of(base)
    read = newer if base is finished.memory.item else state_of(finished.memory.item)
    rebased = rebase(read, newer, patch)
    if rebased.conflict is not None:
        build.add_conflict(item, finished.question.step, versions, rebased.conflict_json())
    if not build.set_state(item, rebased.state, threshold, finished.drafts):
        build.add_conflict(item, finished.question.step, versions, encode_patch(patch))
        return Patch.none(finished.question.step)
    return rebased.applied


def first_new(request: Any, mark: str) -> int:
    """Index of the first message that the record before does not hold: behind the mark of the newest reply."""
    if not mark or request.continues_thread:
        return 0
    place = request.chain.find(mark)
    return place[0] + 1 if place else 0


def mark_with(question: Question, reply: Reply) -> str:
    """The mark of the client's messages with this reply behind them."""
    row = extend(question.request.chain.last, "assistant", reply.content)
    return row[-1] if row else question.request.chain.last


def _patch(services: Services, question: Question, memory: Memory, injection: Injection, reply: Reply) -> Patch:
    """What the rules make of this step's tool calls, and of the results that it brought."""
    new = question.request.messages[first_new(question.request, memory.item.mark) :]
    calls = [block for block in reply.content if isinstance(block, dict) and block.get("type") == "tool_use"]
    results = rules.results_of(new, question.request.messages, called(memory.item.window))
    return rules.patch_from(question.step, calls, results, services.extraction_rules, memory.state)


async def _write_values(services: Services, finished: Finished) -> None:
    """What the item links to, before the item."""
    await finished.drafts.write(services.blobs, services.blob_health, services.state, finished.question.conversation)
    while finished.spilled:
        record = finished.spilled[-1]
        await services.state.put_chunks(finished.question.conversation, record.key, record.data)
        finished.spilled.pop()


async def _publish(
    services: Services, question: Question, memory: Memory, decided: Verdict, lease: Lease, written: Written
) -> None:
    """The hot copy and the lock's release in one call. The step is saved: whatever fails here, it is acknowledged."""
    if lease.degraded:
        return
    entries = {key: pack_entry(entry) for key, entry in memory.ledger.items() if key not in memory.in_hot}
    reserve = written.item.mark if services.config.lock.scope is LockScope.TURN and not decided.ends else ""
    copy = HotCopy(written.versions, written.body, written.item.entries)
    try:
        await services.hot.commit(question.conversation, lease.token, copy, entries, reserve)
    except StoreUnavailable:
        services.hot_health.failed()
    else:
        lease.done()
