"""The parts of an item, and how it is kept small."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from agentmemory_sidecar.archive.blobs import Drafts
from agentmemory_sidecar.archive.keys import SubjectKey
from agentmemory_sidecar.archive.record import Payload, header_of, payload_of
from agentmemory_sidecar.memory.item import Item, LastStep, Outgoing, OutgoingPatch, unpack
from agentmemory_sidecar.memory.window import Line, Turn
from agentmemory_sidecar.step import build
from agentmemory_sidecar.stores.protocols import Conversation, Versions

KEY = SubjectKey("user:anna", 1, b"k" * 32)
PLACE = build.Place(Conversation("t", "s"), "r", KEY, 7.5)
THRESHOLD = 16_384


@pytest.fixture
def drafts() -> Drafts:
    return Drafts("t", KEY)


def test_records_form_a_chain() -> None:
    item = Item()
    for number in range(3):
        build.add_record(item, PLACE, "step", Payload(step=f"s{number}"), Versions(number + 1, number + 1), [])

    headers = [header_of(record.data) for record in item.outbox]
    assert [header.seq for header in headers] == [1, 2, 3] == [record.seq for record in item.outbox]
    before = ["", *(hashlib.sha256(record.data).hexdigest() for record in item.outbox)]
    assert [header.prev for header in headers] == before[:3]
    assert (item.chain.seq, item.chain.hash) == (3, before[3])
    assert payload_of(item.outbox[1].data, KEY).step == "s1"


def test_notes_become_records_once() -> None:
    item = Item()
    notes = [
        msgspec.msgpack.encode({"step": "a", "kind": "refused", "outcome": "refused", "at": 3.0}),
        msgspec.msgpack.encode({"step": "b", "kind": "failed", "outcome": "upstream_cut", "at": 4.0}),
    ]
    build.add_notes(item, PLACE, notes, Versions(1, 1))
    build.add_notes(item, PLACE, notes, Versions(2, 2))

    headers = [header_of(record.data) for record in item.outbox]
    assert [(header.kind, header.at) for header in headers] == [("refused", 3.0), ("failed", 4.0)]
    assert payload_of(item.outbox[1].data, KEY).outcome == "upstream_cut"


def test_note_that_an_older_hot_tier_brings_again_is_known() -> None:
    item = Item()
    first, second = ([msgspec.msgpack.encode({"step": step, "kind": "failed", "at": 3.0})] for step in "ab")
    for version, notes in enumerate((first, second, first, [*second, *first]), 1):
        build.add_notes(item, PLACE, notes, Versions(version, version))

    assert [payload_of(record.data, KEY).step for record in item.outbox] == ["a", "b"]


def test_small_item_is_left_as_it_is(drafts: Drafts) -> None:
    item = Item(state=b"{}", outbox=[Outgoing("k", 1, b"x" * 1000)])
    spilled: list[Outgoing] = []

    assert unpack(build.shrink(item, spilled.append, drafts)) == item
    assert spilled == []
    assert drafts.keys == []


def test_biggest_records_leave_first_and_no_more_than_needed(drafts: Drafts) -> None:
    sizes = {1: 10_000, 2: 30_000, 3: 20_000}
    item = Item(outbox=[Outgoing(f"k{seq}", seq, bytes([seq]) * size) for seq, size in sizes.items()])
    spilled: list[Outgoing] = []

    packed = build.shrink(item, spilled.append, drafts)

    assert len(packed) <= build.ITEM_LIMIT
    assert [(record.seq, len(record.data)) for record in spilled] == [(2, 30_000)]
    kept = unpack(packed).outbox
    assert [bool(record.data) for record in kept] == [True, False, True]
    assert kept[1].chunks == spilled[0].chunks != ""


def test_then_values_become_blobs(drafts: Drafts) -> None:
    window = [Turn(f"t{n}", n, tuple(Line("user", f"{n}{m} " * 300) for m in range(20)), done=True) for n in range(5)]
    reply = {"type": "message", "content": [{"type": "text", "text": "word " * 500} for _ in range(10)]}
    item = Item(window=window, last=LastStep("s", "r", 1.0, msgspec.json.encode(reply)))

    packed = build.shrink(item, lambda _: None, drafts)

    assert len(packed) <= build.ITEM_LIMIT
    assert drafts.keys
    small = unpack(packed)
    assert [len(turn.lines) for turn in small.window] == [20] * 5


def test_state_that_is_too_large_is_not_taken(drafts: Drafts) -> None:
    item = Item(state=b'{"old":1}')

    assert not build.set_state(item, {"list": ["x" * 1_000] * 300}, THRESHOLD, drafts)
    assert item.state == b'{"old":1}'
    assert build.set_state(item, {"one": "x" * 1_000_000}, THRESHOLD, drafts)
    assert len(item.state) < 1_000


def test_copy_leaves_the_old_item_alone(tmp_path: Path) -> None:
    old = Item(outbox=[Outgoing("k", 1, b"x")])
    new = build.fresh_copy(old)
    build.add_record(new, PLACE, "step", Payload(step="s"), Versions(1, 1), [])
    build.add_conflict(new, "s", Versions(1, 1), b"{}")
    new.patches = [*new.patches, OutgoingPatch(1, "root", b"{}")]

    assert old == Item(outbox=[Outgoing("k", 1, b"x")])
