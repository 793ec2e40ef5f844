"""What is DynamoDB's own; the rest is in the conformance suite."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from agentmemory_sidecar.stores.aws import AwsOptions
from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.dynamodb_item import CHUNK_BYTES, FOREVER
from agentmemory_sidecar.stores.dynamodb_table import chunk_key, head_key, partition
from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    Conversation,
    OtherHead,
    StaleWrite,
    Stored,
    StoreUnavailable,
    Versions,
)
from tests.ministack import Ministack
from tests.sidecar.stores.conformance.aws_backends import REGION, dynamodb, dynamodb_client, new_table
from tests.sidecar.stores.conformance.backends import STATE
from tests.sidecar.stores.conformance.state import StateConformance

STATE["dynamodb"] = dynamodb
TALK = Conversation("tenant", "session")
KEY = {"pk": {"S": partition("tenant", "session")}, "sk": {"S": head_key("root", "main")}}


class TestConformance(StateConformance):
    backend = "dynamodb"


@pytest.fixture
def table(ministack: Ministack) -> str:
    return new_table(ministack)


@pytest.fixture
def options(ministack: Ministack) -> AwsOptions:
    return AwsOptions(REGION, endpoint_url=ministack.url, deadline_s=20.0, read_timeout_s=10.0)


@pytest.fixture
async def store(options: AwsOptions, table: str) -> AsyncIterator[DynamoStateStore]:
    store = DynamoStateStore(options, table)
    yield store
    await store.close()


async def create(store: DynamoStateStore, talk: Conversation = TALK, *, pending: bool = False) -> None:
    await store.write(talk, b"one", expect=ABSENT, new=Versions(1, 1), pending=pending)


# ------------------------------------------------------------------------------------------------------------- lifetime


async def test_an_item_past_its_expiry_that_ttl_has_not_deleted_is_absent(
    store: DynamoStateStore, ministack: Ministack, table: str
) -> None:
    await create(store, pending=True)
    client = dynamodb_client(ministack.url)
    client.update_item(
        TableName=table,
        Key=KEY,
        UpdateExpression="SET expires = :past",
        ExpressionAttributeValues={":past": {"N": str(int(time.time()) - 1)}},
    )
    assert await store.versions(TALK) == ABSENT
    assert await store.read(TALK) == Stored(ABSENT, b"", {})
    assert await store.agents("tenant", "session") == []
    assert await store.pending("tenant") == []
    with pytest.raises(StaleWrite):
        await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
    locked = await store.lock(TALK, "mine", 60)
    assert (locked.versions, locked.body) == (Versions(0, 2), b"")  # a version that was used never comes again
    client.close()


async def test_the_expiry_is_the_tables_ttl(store: DynamoStateStore, ministack: Ministack, table: str) -> None:
    client = dynamodb_client(ministack.url)
    ttl = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
    await create(store)
    assert client.get_item(TableName=table, Key=KEY)["Item"]["expires"] == {"N": str(FOREVER)}
    before = int(time.time())
    await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False, ttl_s=900)
    expires = int(client.get_item(TableName=table, Key=KEY)["Item"]["expires"]["N"])
    assert before + 900 <= expires <= int(time.time()) + 900
    await store.lock(TALK, "mine", 60)
    assert client.get_item(TableName=table, Key=KEY)["Item"]["expires"] == {"N": str(expires)}
    await store.lock(Conversation("tenant", "never written"), "mine", 60)
    key = {"pk": {"S": partition("tenant", "never written")}, "sk": KEY["sk"]}
    assert int(client.get_item(TableName=table, Key=key)["Item"]["expires"]["N"]) < time.time() + 2 * 86_400
    client.close()


# ---------------------------------------------------------------------------------------------------------------- heads


async def test_each_region_writes_an_item_of_its_own(options: AwsOptions, table: str) -> None:
    east, west = (DynamoStateStore(options, table, head=region) for region in ("us-east-1", "us-west-2"))
    await create(east, pending=True)
    await east.add_entries(TALK, {"k": b"entry"})
    beside = (OtherHead("us-east-1", 1, b"one"),)
    assert await west.read(TALK) == Stored(ABSENT, b"", {"k": b"entry"}, beside)  # the ledger is everybody's
    await west.write(TALK, b"west", expect=ABSENT, new=Versions(7, 7), pending=False)
    assert (await east.read(TALK)).body == b"one"
    assert await west.versions(TALK) == Versions(7, 7)
    assert (await west.versions(TALK)).others == (("us-east-1", 1),)
    assert (await east.lock(TALK, "mine", 60)).others == (OtherHead("us-west-2", 7, b"west"),)
    await east.unlock(TALK, "mine")
    assert await east.pending("tenant") == [TALK]
    assert await west.pending("tenant") == []
    assert await west.agents("tenant", "session") == ["root"]
    await east.close()
    await west.close()


# --------------------------------------------------------------------------------------------------------- large things


async def test_a_body_too_large_for_an_item_is_refused_for_sure(store: DynamoStateStore) -> None:
    await create(store)
    with pytest.raises(StoreUnavailable, match=r"UpdateItem: ValidationException: .*size") as refused:
        await store.write(TALK, bytes(410_000), expect=Versions(1, 1), new=Versions(2, 2), pending=False)
    assert refused.value.definite
    assert await store.versions(TALK) == Versions(1, 1)


async def test_a_value_of_which_a_chunk_is_missing_is_none(
    store: DynamoStateStore, ministack: Ministack, table: str
) -> None:
    await store.put_chunks(TALK, "blob", bytes(3 * CHUNK_BYTES))
    client = dynamodb_client(ministack.url)
    client.delete_item(TableName=table, Key={"pk": KEY["pk"], "sk": {"S": chunk_key("root", "blob", 2)}})
    assert await store.get_chunks(TALK, "blob") is None
    await store.put_chunks(TALK, "blob", bytes(3 * CHUNK_BYTES))
    assert await store.get_chunks(TALK, "blob") == bytes(3 * CHUNK_BYTES)
    client.close()


async def test_agents_are_found_among_ledgers_and_chunks(store: DynamoStateStore) -> None:
    """More of everything than a page of the walk."""
    talks = [Conversation("tenant", "session", f"agent-{number:02}") for number in range(12)]
    for number, talk in enumerate(talks):
        await store.add_entries(talk, {f"k{entry}": b"entry" for entry in range(5 * (number % 3))})
        if number % 4 == 1:
            await store.put_chunks(talk, "blob", bytes(2 * CHUNK_BYTES))
        if number % 2:
            await create(store, talk)
    await store.add_entries(talks[0], {f"many{entry}": b"entry" for entry in range(60)})
    await create(store, TALK)
    assert await store.agents("tenant", "session") == ["root", *(talk.agent for talk in talks[1::2])]


# --------------------------------------------------------------------------------------------------------------- errors


async def test_a_missing_table_is_named_with_the_way_out(options: AwsOptions) -> None:
    store = DynamoStateStore(options, "nowhere")
    with pytest.raises(StoreUnavailable) as told:
        await store.ping()
    assert told.value.definite
    assert told.value.reason.startswith("table 'nowhere' not found in us-east-1 at http://127.0.0.1:")
    assert "create it" in told.value.reason
    await store.close()


async def test_a_server_that_freezes_dies_and_comes_back(
    killable_ministack: Callable[[], Awaitable[Ministack]],
) -> None:
    server = await killable_ministack()
    table = new_table(server)
    store = DynamoStateStore(AwsOptions(REGION, server.url, deadline_s=20.0, read_timeout_s=20.0), table)
    hasty = DynamoStateStore(AwsOptions(REGION, server.url, deadline_s=20.0, read_timeout_s=0.5), table)
    await create(store)
    server.pause()
    with pytest.raises(StoreUnavailable, match="ReadTimeoutError") as frozen:
        await hasty.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
    assert not frozen.value.definite
    server.resume()
    async with asyncio.timeout(20):  # the write that was in doubt happens, later
        while await store.versions(TALK) != Versions(2, 2):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    server.kill()
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await asyncio.to_thread(server.restart)
    with pytest.raises(StoreUnavailable, match="not found"):
        await store.ping()
    await store.close()
    await hasty.close()


async def test_a_cursor_that_no_page_gave(store: DynamoStateStore) -> None:
    for cursor in ("x", "g:a#b", "0", "0:"):
        with pytest.raises(ValueError, match="pass the `next` of the page before"):
            await store.sessions("tenant", after=cursor)


async def test_an_empty_body_is_refused(store: DynamoStateStore) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        await store.write(TALK, b"", expect=ABSENT, new=Versions(1, 1), pending=False)
