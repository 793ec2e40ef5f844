"""The next item, from the one before and a finished step: what ``commit`` writes. No input or output here.

Built again from a newer item when another writer was faster, so it takes everything it needs and changes nothing it got.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agentmemory_sidecar.archive.blobs import Drafts
from agentmemory_sidecar.archive.keys import SubjectKey
from agentmemory_sidecar.archive.record import VERSION, Header, Kind, Payload, encode, hash_of, key_of
from agentmemory_sidecar.memory import links
from agentmemory_sidecar.memory.extraction import provenance
from agentmemory_sidecar.memory.form import form_of, migration
from agentmemory_sidecar.memory.heads import Strategies
from agentmemory_sidecar.memory.item import (
    KEPT_NOTED,
    ChainHead,
    Conflict,
    Item,
    LastStep,
    Outgoing,
    OutgoingPatch,
    pack,
)
from agentmemory_sidecar.memory.outgoing import prepare
from agentmemory_sidecar.memory.state import Patch, from_json, lay_over, to_json
from agentmemory_sidecar.memory.window import Turn, shortened
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.state import MergeStrategy
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.stores.protocols import Conversation, Versions
from agentmemory_sidecar.wire.events import Reply

ITEM_LIMIT = 44_000
"""Bytes an item should stay below: far under DynamoDB's 400 KB, and cheap to write with every step."""
STATE_LIMIT = 256_000
"""Bytes the state object may have; a patch that would make it larger is kept as a conflict."""
STATE_LIMIT_OF_HEADS = 120_000
"""Likewise where each region has a head: that holds a base and, while another region acknowledges nothing, nearly as much
again in patches, and must stay below DynamoDB's 400 KB."""


def state_limit(config: SidecarConfig) -> int:
    return STATE_LIMIT_OF_HEADS if config.many_heads else STATE_LIMIT


@dataclass(frozen=True, slots=True)
class Place:
    """Whose item it is, and what seals its records."""

    conversation: Conversation
    region: str
    key: SubjectKey
    now: float
    head: str = "main"
    """Which of the conversation's items it is."""

    @property
    def tenant(self) -> str:
        return self.conversation.tenant


def fresh_copy(item: Item) -> Item:
    """A copy whose lists may be replaced and appended to."""
    return msgspec.structs.replace(item)


def add_record(
    item: Item, place: Place, kind: Kind, payload: Payload, versions: Versions, blobs: Sequence[str]
) -> Outgoing:
    """Seal a record as the next of the chain and put it into the outbox."""
    seq = item.chain.seq + 1
    header = Header(
        v=VERSION, kind=kind, tenant=place.tenant, subject=place.key.subject, generation=place.key.generation,
        session=place.conversation.session, agent=place.conversation.agent, region=place.region, seq=seq,
        prev=item.chain.hash, at=place.now, turn=versions.turn, version=versions.version, blobs=list(blobs),
    )  # fmt: skip
    data = encode(header, payload, place.key)
    record = Outgoing(key_of(place.tenant, place.key.subject, place.conversation, place.region, seq), seq, data)
    item.chain = ChainHead(seq, hash_of(data))
    item.outbox = [*item.outbox, record]
    return record


def add_notes(item: Item, place: Place, notes: Sequence[bytes], versions: Versions) -> None:
    """Records without content for the steps that were refused or failed since the last commit.

    The hot tier forgets its notes when it hears of the commit. Where it did not, or comes back with older data, they come
    again.
    """
    decoded = [msgspec.msgpack.decode(data) for data in notes]
    for note in decoded:
        if note["step"] in item.noted:
            continue
        kind: Kind = "refused" if note.get("kind") == "refused" else "failed"
        payload = Payload(step=str(note.get("step", "")), outcome=str(note.get("outcome", "")))
        at = Place(place.conversation, place.region, place.key, float(note.get("at", place.now)))
        add_record(item, at, kind, payload, versions, ())
    if decoded:
        noted = [note["step"] for note in decoded]
        item.noted = [*(step for step in item.noted if step not in noted), *noted][-max(KEPT_NOTED, len(noted)) :]


def linked(value: Any, threshold: int, drafts: Drafts) -> Any:
    """The value with what is too big in it replaced by links."""
    return links.extract(value, threshold, drafts.add)


def linked_patch(patch: Patch, threshold: int, drafts: Drafts) -> Patch:
    """The patch with links for what is too big in it, as the state has them."""
    operations = tuple(
        msgspec.structs.replace(operation, value=linked(operation.value, threshold, drafts))
        for operation in patch.operations
    )
    return msgspec.structs.replace(patch, operations=operations)


def linked_json(data: bytes, threshold: int, drafts: Drafts) -> msgspec.Raw:
    """The same for JSON text; text shorter than the threshold holds no bigger value and stays as it is."""
    if len(data) <= threshold:
        return msgspec.Raw(data)
    return msgspec.Raw(msgspec.json.encode(linked(msgspec.json.decode(data), threshold, drafts)))


def state_of(item: Item, config: SidecarConfig, user: str) -> dict[str, Any]:
    """The item's state object in the declared form, or a new one of ``user`` where none was ever written."""
    form = form_of(config)
    return form.read(from_json(item.state, region=config.region)) if item.state else form.beginning(user)


def state_as_read(
    config: SidecarConfig, item: Item, owner: Conversation, reader: Conversation, own: Item
) -> dict[str, Any]:
    """The state object in an owner's item as a conversation reads it, whose own item is ``own``: with the patches laid over
    it that the conversation has made and that are not there yet. ``{}`` where none was ever written."""
    form = form_of(config)
    state = form.read(from_json(item.state, region=config.region))
    if not own.patches:
        return state
    mark = item.applied.get(source_of(reader, owner), 0)
    waiting = [patch for patch in own.patches if patch.seq > mark and target_of(reader, patch) == owner]
    return lay_over(state, [form.carried(patch).patch for patch in waiting])


def with_migration(config: SidecarConfig, item: Item, read: dict[str, Any], patch: Patch) -> Patch:
    """A patch that was made for the state as it was read, behind what makes that of the item's."""
    if config.form is None or not item.state:
        return patch
    before = migration(from_json(item.state, region=config.region), read)
    return msgspec.structs.replace(patch, operations=(*before, *patch.operations)) if before else patch


def set_state(item: Item, state: dict[str, Any], threshold: int, drafts: Drafts, *, limit: int = STATE_LIMIT) -> bool:
    """Put a state object into the item; False (and nothing done) where it is too large even with its big values linked."""
    data = to_json(linked(state, threshold, drafts))
    if len(data) > limit:
        return False
    item.state = data
    return True


def set_last(item: Item, question: Question, reply: Reply, place: Place, threshold: int, drafts: Drafts) -> None:
    """Keep the reply, so that the same request is answered from it; nothing of one that cannot be told again whole."""
    data = bytes(linked_json(reply.encoded, threshold, drafts)) if reply.faithful else b""
    item.last = LastStep(question.step, question.fingerprint, place.now, data)


def send_patch(
    item: Item, config: SidecarConfig, source: Conversation, owner: Conversation, state: dict[str, Any], patch: Patch
) -> None:
    """A patch leaves through the conversation's outbox where the state is not its own, or of a form that is not known here.
    ``state`` is what it was made for."""
    item.patch_seq += 1
    session = "" if owner.session == source.session else owner.session
    outgoing = prepare(
        item.patch_seq, session, owner.agent, patch, state, strategies(config), version=config.schema_version
    )
    item.patches = [*item.patches, outgoing]


def target_of(source: Conversation, patch: OutgoingPatch) -> Conversation:
    """Whose state a conversation's outgoing patch is for."""
    return Conversation(source.tenant, patch.target_session or source.session, patch.target_agent)


def source_of(source: Conversation, owner: Conversation) -> str:
    """How an item names a conversation whose patches it takes."""
    return source.agent if owner.session == source.session else f"{source.session}\x1f{source.agent}"


def strategies(config: SidecarConfig) -> Strategies:
    """What becomes of writes that meet, by JSON pointer. Of where a fact came from, the later note stands: it tells by
    itself whether it is the fact's."""
    return {provenance.PLACE: MergeStrategy.LATEST, **{rule.pointer: rule.strategy for rule in config.merge}}


def add_conflict(item: Item, source: str, versions: Versions, operations: bytes) -> None:
    item.conflicts = [*item.conflicts, Conflict(source, versions.version, operations)]


def shrink(item: Item, spill: Callable[[Outgoing], None], drafts: Drafts) -> bytes:
    """Pack the item below its limit: records leave for chunk items first, then smaller and smaller values become blobs.

    ``spill`` is told of each record whose bytes must go to the chunk items it names. What cannot be made small enough is
    written as it is: the store's own limit is far above.
    """
    data = pack(item)
    if len(data) <= ITEM_LIMIT:
        return data
    for record in sorted(item.outbox, key=lambda record: -len(record.data)):
        if not record.data:
            continue
        name = f"{record.key}.{hash_of(record.data)[:16]}"
        spill(Outgoing(record.key, record.seq, record.data, name))
        kept = Outgoing(record.key, record.seq, chunks=name)
        item.outbox = [kept if other.seq == record.seq else other for other in item.outbox]
        if len(data := pack(item)) <= ITEM_LIMIT:
            return data
    for threshold in (4_096, 1_024, 256):
        _tighten(item, threshold, drafts)
        if len(data := pack(item)) <= ITEM_LIMIT:
            return data
    return data


def set_window(item: Item, turns: Sequence[Turn], threshold: int, drafts: Drafts, before: Sequence[Turn] = ()) -> None:
    """Put the window into the item; a line that is too big keeps its beginning and says where the whole lies. Turns that
    were in the window ``before`` are as they should be."""
    known = {id(turn) for turn in before}
    item.window = [turn if id(turn) in known else shortened(turn, threshold, drafts.add) for turn in turns]


def _tighten(item: Item, threshold: int, drafts: Drafts) -> None:
    set_window(item, item.window, threshold, drafts)
    if item.last is not None and item.last.reply:
        reply = linked(msgspec.json.decode(item.last.reply), threshold, drafts)
        item.last = LastStep(item.last.step, item.last.request, item.last.at, msgspec.json.encode(reply))
