"""The state item as bytes, and what it keeps of its past."""

import msgspec
import pytest

from agentmemory_sidecar.memory.item import (
    FORMAT,
    KEPT_OPENINGS,
    KEPT_REPLIES,
    ChainHead,
    Conflict,
    Item,
    LastStep,
    Outgoing,
    OutgoingPatch,
    UnknownFormat,
    pack,
    unpack,
)
from agentmemory_sidecar.memory.ledger import Made
from agentmemory_sidecar.memory.window import Line, Turn


def test_packed_item_is_the_same() -> None:
    whole = Item(
        subject="user:anna", state=b'{"x":1}', window=[Turn("t", 1, (Line("user", "Hi"),), done=True)], mark="m", entries=3,
        steps=["a"], last=LastStep("a", "r", 1.5, b"{}"), replies=[Made("i", "m", "a", "e", opening=True)],
        outbox=[Outgoing("k", 1, b"\0"), Outgoing("k2", 2, chunks="c")], patches=[OutgoingPatch(1, "root", b"{}")],
        patch_seq=1, applied={"a1": 4}, chain=ChainHead(2, "h"), blobs=["b"], conflicts=[Conflict("s", 3, b"{}")],
    )  # fmt: skip

    assert unpack(pack(whole)) == whole


def test_nothing_is_an_item_that_was_never_written() -> None:
    assert unpack(b"") == Item()
    assert not Item().pending


@pytest.mark.parametrize(
    "item",
    [Item(outbox=[Outgoing("k", 1)]), Item(patches=[OutgoingPatch(1, "root", b"")]), Item(blobs=["b"])],
    ids=["outbox", "patches", "blobs"],
)
def test_what_waits_makes_it_pending(item: Item) -> None:
    assert item.pending


def test_newer_format_is_refused_and_newer_members_are_not() -> None:
    newer = msgspec.msgpack.encode({"format": FORMAT + 1})
    with pytest.raises(UnknownFormat, match=f"format {FORMAT + 1}"):
        unpack(newer)

    assert unpack(msgspec.msgpack.encode({"subject": "s", "invented_later": [1]})).subject == "s"


def test_newest_replies_and_openings_are_kept() -> None:
    item = Item()
    for number in range(300):
        item.remember(Made(f"m{number}", f"mark{number}", "", opening=number % 3 == 0))

    assert item.mark_of_reply("m299") == "mark299"
    assert item.mark_of_reply(f"m{300 - KEPT_REPLIES}") == f"mark{300 - KEPT_REPLIES}"
    assert item.mark_of_reply("m1") == ""
    older = item.replies[:-KEPT_REPLIES]
    assert len(older) == KEPT_OPENINGS
    assert all(reply.opening for reply in older)
    assert [reply.id for reply in item.replies] == sorted(
        (reply.id for reply in item.replies), key=lambda m: int(m[1:])
    )
