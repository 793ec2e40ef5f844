"""Sums over records, weighed as Claude charges them."""

from typing import Any

import pytest

from agentmemory_sidecar.archive.reader import Record
from agentmemory_sidecar.archive.record import Header, Kind, Payload
from agentmemory_sidecar.archive.report import Report, report


def record(kind: Kind, at: float = 0.0, payload: Payload | None = None) -> Record:
    return Record(Header(1, kind, "t", "s", 1, "s", "root", "local", 1, "", at, 1, 1), payload)


def step(whole: int, new: int, repeated: int, at: float = 0.0, **usage: Any) -> Record:
    receipt = {"state-tokens": str(whole), "injected-tokens": str(new), "replayed-tokens": str(repeated)}
    return record("step", at, Payload("one", usage=usage, injected={"receipt": receipt}))


def test_without_a_cache_every_token_is_charged_whole() -> None:
    found = report([step(5_000, 300, 0), step(5_000, 0, 300), step(5_000, 100, 300)])
    assert (found.steps, found.whole_tokens, found.injected_tokens, found.replayed_tokens) == (3, 15_000, 400, 600)
    assert found.saved_tokens == 14_000
    assert found.saved_net == 14_000


@pytest.mark.parametrize(("ttl", "written"), [("ephemeral_5m_input_tokens", 1.25), ("ephemeral_1h_input_tokens", 2.0)])
def test_an_entry_is_plain_then_written_then_read(ttl: str, written: float) -> None:
    cached = {"cache_read_input_tokens": 9_000, "cache_creation_input_tokens": 500, "cache_creation": {ttl: 500}}
    found = report([step(1_000, 300, 0, **cached), step(1_000, 0, 300, **cached), step(1_000, 0, 300, **cached)])
    assert found.weighed == pytest.approx(300 + 300 * written + 300 * 0.1)


def test_an_entry_that_was_not_repeated_is_not_written() -> None:
    cached = {"cache_read_input_tokens": 9_000, "cache_creation_input_tokens": 500}
    found = report([step(1_000, 300, 0, **cached), step(1_000, 50, 0, **cached)])
    assert found.weighed == pytest.approx(350)


def test_what_is_older_only_tells_what_the_cache_has() -> None:
    cached = {"cache_read_input_tokens": 9_000, "cache_creation_input_tokens": 500}
    found = report([step(1_000, 300, 0, at=10, **cached), step(1_000, 0, 300, at=20, **cached)], since=15)
    assert found.steps == 1
    assert found.weighed == pytest.approx(375)


def test_other_records_are_counted_by_kind() -> None:
    found = report(
        [record("refused"), record("failed"), record("failed"), record("patch"), record("step")], conflicts=2
    )
    assert found == Report(steps=1, refused=1, failed=2, unreadable=1, conflicts=2)


def test_a_receipt_of_another_make_counts_nothing() -> None:
    odd = Payload("one", usage={"input_tokens": None}, injected={"receipt": {"state-tokens": "many"}})
    assert report([record("step", 0, odd)]) == Report(steps=1)
