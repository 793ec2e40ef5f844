"""Requests on a table: paging, and the index that lags."""

import threading
import time
from collections.abc import Iterator

import pytest

from agentmemory_sidecar.stores.aws import Call
from agentmemory_sidecar.stores.dynamodb_requests import BATCH, SLIM, Refused, Requests
from tests.ministack import Ministack
from tests.sidecar.stores.conformance.aws_backends import dynamodb_client, new_table


@pytest.fixture
def table(ministack: Ministack) -> Iterator[Requests]:
    client = dynamodb_client(ministack.url)
    yield Requests(Call(client, "dynamodb", time.monotonic() + 60, threading.Event()), new_table(ministack))
    client.close()


def key(number: int) -> dict[str, dict[str, str]]:
    return {"pk": {"S": "p"}, "sk": {"S": f"{number:03}"}}


def test_a_query_goes_on_until_the_limit_or_the_end(table: Requests) -> None:
    for number in range(6):
        table.put({**key(number), "data": {"B": bytes(300_000)}})  # four of them fill a page
    assert [row["sk"]["S"] for row in table.query("p", "001", "005")] == ["001", "002", "003", "004", "005"]
    assert [row["sk"]["S"] for row in table.query("p", "000", "005", since="001", limit=4)] == [
        "002",
        "003",
        "004",
        "005",
    ]
    assert [row["sk"]["S"] for row in table.query("p", "000", "005", limit=1)] == ["000"]
    assert all("data" not in row for row in table.query("p", "000", "005", only=SLIM))
    assert list(table.query("nobody", "000", "005")) == []


def test_only_what_is_still_pending_counts(table: Requests) -> None:
    """The index may name items that are done, gone or past their expiry."""
    now = int(time.time())
    table.put({**key(1), "pending": {"S": "m"}, "expires": {"N": str(now + 1000)}})
    table.put({**key(2), "expires": {"N": str(now + 1000)}})
    table.put({**key(3), "pending": {"S": "m"}, "expires": {"N": str(now - 1)}})
    table.put({**key(5), "pending": {"S": "m"}})
    assert table.marked("m", 10) == [key(1), key(3), key(5)]
    assert len(table.marked("m", 2)) == 2
    assert table.marked("other", 10) == []
    assert table.still_marked([key(5), key(4), key(3), key(2), key(1)]) == [key(5), key(1)]
    assert table.still_marked([]) == []


def test_more_keys_than_one_batch(table: Requests) -> None:
    every = [key(number) for number in range(2 * BATCH + 3)]
    for each in every:
        table.put({**each, "pending": {"S": "m"}})
    assert table.marked("m", 1000) == every
    assert table.still_marked(every) == every


def test_a_refusal_tells_what_is_there(table: Requests) -> None:
    table.put({**key(1), "data": {"S": "first"}}, ConditionExpression="attribute_not_exists(pk)")
    with pytest.raises(Refused) as refused:
        table.put({**key(1), "data": {"S": "second"}}, ConditionExpression="attribute_not_exists(pk)")
    assert refused.value.item == {**key(1), "data": {"S": "first"}}
    table.delete(key(1))
    assert table.get(key(1), "#version") is None
