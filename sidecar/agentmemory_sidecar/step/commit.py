"""Commit: blobs and ledger entries, then one conditional write of the item, then the hot copy with the lock's release.

The write says what it read. Where it is refused, the item is read and looked through for this step's own id before
anything else: an answer that was lost is not a refusal. A step whose ``turn`` has moved is fenced. Where only ``version``
has moved the item is built again on the newer one.
"""

import asyncio
from dataclasses import dataclass

import msgspec

from agentmemory_sidecar.archive.blobs import Drafts
from agentmemory_sidecar.memory.heads import unknown_to
from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.memory.ledger import pack as pack_entry
from agentmemory_sidecar.memory.state import Patch
from agentmemory_sidecar.memory.verdict import Verdict, verdict
from agentmemory_sidecar.resource.session import LockScope
from agentmemory_sidecar.resource.state import StateUnavailable
from agentmemory_sidecar.step import build, heads
from agentmemory_sidecar.step.acknowledge import Pings
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.step.compose import Finished, next_item, patch_of
from agentmemory_sidecar.step.exchange import Client
from agentmemory_sidecar.step.forward import Answer
from agentmemory_sidecar.step.hydrate import Memory
from agentmemory_sidecar.step.inject import Injection
from agentmemory_sidecar.step.question import Question, mark_in_thread
from agentmemory_sidecar.step.recent import Recent
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.step.values import write_values
from agentmemory_sidecar.stores.protocols import ABSENT, HotCopy, OtherHead, StaleWrite, StoreUnavailable, Versions
from agentmemory_sidecar.wire.errors import fenced, memory_unavailable
from agentmemory_sidecar.wire.events import Reply

TRIES = 8
TRIES_WITH_OTHERS = 2
"""Where the client's next try can be answered through another region's endpoint, it should not wait for long."""
PAUSE_S = 0.1
"""The first pause between tries to reach the state tier; it doubles."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the item became."""

    versions: Versions
    item: Item
    body: bytes
    others: tuple[OtherHead, ...]
    """The other regions' heads that it was made with."""


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
    pings = Pings(client, services) if client.begun else None
    try:
        answer.outcome = await _outcome(services, question, memory, injection, answer.reply, lease)
    finally:
        if pings is not None:
            pings.cancel()
    services.metrics.count(services.metrics.turns, answer.outcome["commit"])


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
        services.state_health.failed()
        if services.config.on_state_unavailable is StateUnavailable.REFUSE:
            raise memory_unavailable("state tier", sent=True) from error
        return {"commit": "not-remembered"}
    if kept := sum([conflict.source == question.step for conflict in written.item.conflicts]):
        services.metrics.conflicts.inc(kept)
    if written.item.clashes:
        services.metrics.clashes.inc(unknown_to(memory.item.head, written.item.clashes))
    if written.item.others:
        services.metrics.unmerged(question.conversation, heads.unmerged(services.state.head, written.item))
    await _publish(services, question, memory, injection, decided, lease, written)
    services.archiver.submit(question.conversation, written.item.outbox)
    if services.extractor is not None and written.item.unread:
        services.extractor.submit(services, question.conversation, written.item)
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
    place = build.Place(question.conversation, services.writer, key, services.now(), services.state.head)
    drafts = Drafts(question.identity.tenant, key)
    patch = Patch.none(question.step)
    if decided.apply:
        patch = patch_of(services.extraction_rules, question, memory, reply)
    if decided.commit and injection.changes:
        # Claude was told that these were done, whatever ended its last reply.
        patch = msgspec.structs.replace(patch, operations=(*patch.operations, *injection.changes))
    finished = Finished(question, memory, injection, reply, decided, patch, place, drafts)
    base, versions, others = memory.item, memory.versions, memory.others
    pause = PAUSE_S
    for attempt in range(TRIES):
        new = Versions(versions.turn + 1, versions.version + 1, versions.others)
        item = next_item(services.config, services.archiver.archived(question.conversation), finished, base, new)
        body = build.shrink(item, finished.spilled.append, drafts)
        try:
            if versions == ABSENT:
                await services.state.index(question.identity.tenant, key.subject, question.identity.session)
            body = await write_values(services, question.conversation, item, body, drafts, finished.spilled)
            lease.intact = False
            await services.state.write(
                question.conversation, body, expect=versions, new=new, pending=item.pending,
                token=lease.token if lease.degraded else "", ttl_s=services.state_ttl_s, entries=injection.unsaved,
            )  # fmt: skip
            return Written(new, item, body, others)
        except StaleWrite:
            pass
        except StoreUnavailable:
            if attempt == (TRIES_WITH_OTHERS if services.elsewhere else TRIES) - 1:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
        try:
            stored = await services.state.read(question.conversation)
        except StoreUnavailable:
            continue
        found = heads.whole(services.config, services.state.head, stored)
        memory.learn(stored.ledger)
        if question.step in found.steps:
            return Written(stored.versions, found, stored.body, stored.others)
        if stored.versions.turn != versions.turn:
            services.metrics.fenced.inc()
            raise fenced()
        base, versions, others = found, stored.versions, stored.others
    raise StoreUnavailable("state", "the item kept changing", definite=False)


async def _publish(
    services: Services,
    question: Question,
    memory: Memory,
    injection: Injection,
    decided: Verdict,
    lease: Lease,
    written: Written,
) -> None:
    """The hot copy and the lock's release in one call. The step is saved: whatever fails here, it is acknowledged."""
    services.recents.forget(question.conversation)
    if lease.degraded:
        return
    entries = {key: pack_entry(entry) for key, entry in memory.ledger.items() if key not in memory.in_hot}
    entries |= {entry.key: pack_entry(entry) for entry in injection.made if entry.key not in memory.in_hot}
    reserve = ""
    if services.config.lock.scope is LockScope.TURN and not decided.ends:
        reserve = f"{written.item.mark} {mark_in_thread(written.item.replies[-1].id)}"
    body = heads.pack_copy(services.config, services.state.head, written.body, written.others)
    copy = HotCopy(written.versions, body, written.item.entries)
    try:
        done = await services.hot.commit(question.conversation, lease.token, copy, entries, reserve, len(memory.notes))
    except StoreUnavailable:
        services.hot_health.failed()
        return
    lease.done()
    ledger = memory.ledger | {entry.key: entry for entry in injection.made} if injection.made else memory.ledger
    if done and ledger.keys() == memory.in_hot | entries.keys():
        before = (memory.item.state, memory.item.patches)
        unchanged = (written.item.state, written.item.patches) == before and question.owns_state
        state = memory.state
        if not unchanged:
            state = build.state_as_read(
                services.config, written.item, question.conversation, question.conversation, written.item
            )
        recent = Recent(lease.token, written.versions, written.others, written.item, state, ledger)
        services.recents.keep(question.conversation, recent, len(written.body))
