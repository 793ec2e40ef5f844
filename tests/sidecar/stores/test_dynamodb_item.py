"""Conditional writes and what items mean, without a server."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmemory_sidecar.stores import dynamodb_item as items
from agentmemory_sidecar.stores.protocols import ABSENT, Stored, Versions

NOW = 1_000.0
KEPT: dict[str, Any] = {
    "turn": {"N": "3"},
    "version": {"N": "5"},
    "body": {"B": b"body"},
    "written": {"BOOL": True},
    "expires": {"N": str(items.FOREVER)},
}
ONLY_LOCKED: dict[str, Any] = {
    "turn": {"N": "0"},
    "version": {"N": "1"},
    "lock_token": {"S": "theirs"},
    "lock_until": {"N": "1010.500"},
    "expires": {"N": "90000"},
}
PAST = {**KEPT, "expires": {"N": "1000"}}
"""Its last second has begun."""


@pytest.mark.parametrize(
    ("item", "versions", "body"),
    [
        (None, ABSENT, b""),
        (KEPT, Versions(3, 5), b"body"),
        (ONLY_LOCKED, Versions(0, 1), b""),
        (PAST, ABSENT, b""),
    ],
    ids=["none", "kept", "only locked", "past its expiry"],
)
def test_what_an_item_is_read_as(item: items.Item | None, versions: Versions, body: bytes) -> None:
    assert items.stored(item, {"k": b"entry"}, NOW) == Stored(versions, body, {"k": b"entry"})


@pytest.mark.parametrize(
    ("item", "expect", "answer"),
    [
        (KEPT, Versions(3, 5), True),
        (KEPT, Versions(3, 4), False),
        (KEPT, ABSENT, False),
        (ONLY_LOCKED, ABSENT, True),
        (ONLY_LOCKED, Versions(0, 1), True),
        (PAST, ABSENT, True),
        (PAST, Versions(3, 5), False),
    ],
)
def test_whether_an_item_is_what_a_write_expected(item: items.Item, expect: Versions, answer: bool) -> None:
    assert items.matches(item, expect, NOW) is answer


@pytest.mark.parametrize(
    ("token", "now", "left"),
    [("mine", NOW, 10.5), ("theirs", NOW, 0.0), ("mine", 1010.5, 0.0), ("mine", 2_000.0, 0.0)],
)
def test_how_long_a_lock_is_somebody_elses(token: str, now: float, left: float) -> None:
    assert items.held(ONLY_LOCKED, token, now) == left
    assert items.held(KEPT, token, now) == 0.0


def test_an_item_locked_anew_goes_on_counting() -> None:
    item, condition = items.lock_anew({"pk": {"S": "p"}}, "mine", 60, NOW, PAST)
    assert items.versions_of(item, NOW) == Versions(0, 6)
    assert "body" not in item
    assert condition["ExpressionAttributeValues"] == {":version": {"N": "5"}, ":now": {"N": "1000.000"}}


@settings(deadline=None)
@given(
    expect=st.sampled_from([ABSENT, Versions(3, 5)]),
    pending=st.sampled_from(["", "tenant#main#0"]),
    token=st.sampled_from(["", "mine"]),
    foreign=st.sampled_from(["", "theirs"]),
    expires=st.sampled_from([None, 2_000]),
)
def test_an_update_names_exactly_what_it_uses(
    expect: Versions, pending: str, token: str, foreign: str, expires: int | None
) -> None:
    """DynamoDB refuses a request with an alias or a value that no expression uses."""
    update = items.commit_update(
        b"b", expect=expect, new=Versions(4, 6), pending=pending, token=token, foreign=foreign, expires=expires, now=NOW
    )
    arguments = update.arguments("table", {})
    words = set(f"{update.update} {update.condition}".translate(str.maketrans("(),=", "    ")).split())
    assert {word for word in words if word.startswith(":")} == set(arguments["ExpressionAttributeValues"])
    assert {word for word in words if word.startswith("#")} == set(arguments["ExpressionAttributeNames"])
    assert ("#lock_token, #lock_until" in update.update) == bool(token and not foreign)


@settings(deadline=None)
@given(st.integers(0, 3 * items.CHUNK_BYTES))
def test_pieces_make_the_whole(size: int) -> None:
    data = bytes(size)
    cut = items.pieces(data)
    assert b"".join(cut) == data
    assert cut
    assert all(len(piece) <= items.CHUNK_BYTES for piece in cut)
