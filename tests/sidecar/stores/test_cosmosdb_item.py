"""Documents in, documents out."""

import pytest

from agentmemory_sidecar.stores.cosmosdb_item import (
    CHUNK_BYTES,
    Commit,
    committed,
    held,
    locked,
    matches,
    pieces,
    unlocked,
    versions_of,
)
from agentmemory_sidecar.stores.protocols import ABSENT, Versions

NOW = 1_000_000.0
ONE = Versions(1, 1)


def commit(expect: Versions = ABSENT, new: Versions = ONE, token: str = "", ttl_s: int | None = None) -> Commit:
    return Commit(b"body", expect, new, "", token, ttl_s)


def test_lock_then_write_then_nothing_is_left_of_the_lock() -> None:
    first = locked(None, "mine", 60, NOW)
    assert (first["turn"], first["version"], held(first, "mine", NOW), held(first, "theirs", NOW)) == (0, 1, 0, 60)
    written = committed(first, commit(Versions(0, 1), Versions(1, 2), "mine"), NOW)
    assert {"lock_token", "lock_until", "expires", "ttl"}.isdisjoint(written)


@pytest.mark.parametrize("token", ["", "theirs"])
def test_others_locks_stay(token: str) -> None:
    first = locked(None, "mine", 60, NOW)
    assert committed(first, commit(Versions(0, 1), Versions(1, 2), token), NOW)["lock_token"] == "mine"


def test_lock_that_has_run_out_is_nobodys_hindrance() -> None:
    assert held(locked(None, "mine", 60, NOW), "theirs", NOW + 61) == 0


def test_who_expects_nothing_may_write_upon_a_lock_but_not_with_its_versions() -> None:
    first = locked(None, "mine", 60, NOW)
    assert matches(first, commit(), NOW)
    assert not matches(first, commit(new=Versions(0, 1)), NOW)
    assert not matches(committed(None, commit(), NOW), commit(), NOW)
    assert matches(None, commit(), NOW)
    assert not matches(None, commit(Versions(1, 1)), NOW)


def test_expiry_counts_from_the_write_and_is_kept_by_locks() -> None:
    written = committed(None, commit(ttl_s=100), NOW)
    assert (written["expires"], written["ttl"]) == (NOW + 100, 101)
    later = locked(written, "mine", 60, NOW + 40)
    assert (later["expires"], later["ttl"], later["body"]) == (NOW + 100, 61, written["body"])
    free = unlocked(later, NOW + 50)
    assert (free["expires"], free["ttl"], "lock_token" in free) == (NOW + 100, 51, False)


def test_past_its_expiry_an_item_is_none_but_for_its_version() -> None:
    written = committed(None, commit(ttl_s=100), NOW)
    assert versions_of(written, NOW + 100) == ABSENT
    assert matches(written, commit(), NOW + 100)
    anew = locked(written, "mine", 60, NOW + 100)
    assert (anew["turn"], anew["version"], "body" in anew) == (0, 2, False)


def test_pieces_are_at_least_one() -> None:
    assert pieces(b"") == [b""]
    assert [len(piece) for piece in pieces(bytes(CHUNK_BYTES + 1))] == [CHUNK_BYTES, 1]
