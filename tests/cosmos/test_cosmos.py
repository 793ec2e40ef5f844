"""The stand-in, by Azure's own client: what it refuses is what the store's tests rely on."""

import json
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from azure.core import MatchConditions
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from agentmemory_sidecar.layout.cosmosdb import container_definition
from tests.cosmos import CosmosAccount


@pytest.fixture
async def account() -> AsyncIterator[CosmosAccount]:
    async with CosmosAccount("East US", "West US") as account:
        account.create("d", "c", container_definition())
        yield account


@pytest.fixture
async def container(account: CosmosAccount) -> AsyncIterator[ContainerProxy]:
    async with CosmosClient(account.url, account.key, enable_endpoint_discovery=False) as client:
        yield client.get_database_client("d").get_container_client("c")


def item(name: str = "a", partition: str = "p", **more: Any) -> dict[str, Any]:
    return {"id": name, "agentmemory": partition, **more}


async def status(call: Any) -> tuple[int, int]:
    with pytest.raises(CosmosHttpResponseError) as refused:
        await call
    return int(refused.value.status_code or 0), int(refused.value.sub_status or 0)


async def test_etags_guard_items(container: ContainerProxy) -> None:
    made = await container.create_item(item(n=1))
    assert await status(container.create_item(item())) == (409, 0)
    await container.replace_item("a", item(n=2), etag=made["_etag"], match_condition=MatchConditions.IfNotModified)
    for call in (
        container.replace_item("a", item(n=3), etag=made["_etag"], match_condition=MatchConditions.IfNotModified),
        container.delete_item(
            "a", partition_key="p", etag=made["_etag"], match_condition=MatchConditions.IfNotModified
        ),
    ):
        assert await status(call) == (412, 0)
    assert (await container.read_item("a", "p"))["n"] == 2
    assert await status(container.replace_item("b", item("b"))) == (404, 0)
    assert await status(container.read_item("a", "other")) == (404, 0)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (item("a/b"), 400),
        (item("a?b"), 400),
        (item("x" * 1024), 400),
        (item(ttl=0), 400),
        (item(ttl="1"), 400),
        (item(partition="other"), 400),
    ],
    ids=["slash", "question mark", "long", "no time", "a text", "partition"],
)
async def test_items_that_are_none_are_refused(container: ContainerProxy, wrong: dict[str, Any], told: int) -> None:
    with pytest.raises(CosmosBatchOperationError) as refused:  # upsert_item would look at the id itself
        await container.execute_item_batch([("upsert", (wrong,))], "p")
    assert refused.value.status_code == told


async def test_batches_are_whole_or_nothing_and_bounded(container: ContainerProxy) -> None:
    with pytest.raises(CosmosBatchOperationError) as failed:
        await container.execute_item_batch(
            [("create", (item("b"),)), ("create", (item("c"),)), ("create", (item("b"),))], "p"
        )
    assert (failed.value.status_code, failed.value.error_index) == (409, 2)
    assert await status(container.read_item("b", "p")) == (404, 0)
    many = [("create", (item(f"i{number}"),)) for number in range(101)]
    assert await status(container.execute_item_batch(many, "p")) == (400, 0)


async def test_queries_need_an_index_and_a_partition_or_leave(container: ContainerProxy) -> None:
    await container.create_item(item(pending="m", other="o"))

    async def asked(text: str, **more: Any) -> list[Any]:
        given: list[dict[str, object]] = [{"name": "@v", "value": "m"}]
        return [row async for row in container.query_items(text, parameters=given, **more)]

    assert [row["id"] for row in await asked("SELECT * FROM c WHERE c.pending = @v", partition_key="p")] == ["a"]
    assert await asked("SELECT c.id FROM c WHERE c.pending = @v") == [{"id": "a"}]
    assert await status(asked("SELECT * FROM c WHERE c.other = @v", partition_key="p")) == (400, 0)
    assert await status(asked("SELECT * FROM c WHERE c.pending LIKE @v", partition_key="p")) == (400, 0)


async def test_reads_are_behind_but_for_who_shows_a_token(account: CosmosAccount, container: ContainerProxy) -> None:
    account.faults.behind = 1
    headers: dict[str, str] = {}
    await container.create_item(item(), response_hook=lambda told, _: headers.update(told))
    assert await status(container.read_item("a", "p")) == (404, 0)
    assert (await container.read_item("a", "p", session_token=headers["x-ms-session-token"]))["id"] == "a"
    assert float(headers["x-ms-request-charge"]) > 0
    assert await status(container.read_item("a", "p", session_token="0:1#99")) == (404, 1002)


async def test_read_of_what_one_has_brings_nothing(account: CosmosAccount, container: ContainerProxy) -> None:
    made = await container.create_item(item())
    assert not await container.read_item("a", "p", etag=made["_etag"], match_condition=MatchConditions.IfModified)
    assert await container.read_item("a", "p", etag='"other"', match_condition=MatchConditions.IfModified)


async def test_only_one_region_takes_writes_unless_all_do(account: CosmosAccount) -> None:
    west = account.places["West US"].url
    async with CosmosClient(west, account.key, enable_endpoint_discovery=False) as client:
        there = client.get_database_client("d").get_container_client("c")
        assert await status(there.create_item(item())) == (403, 3)


async def test_regions_that_all_take_writes_want_clients_that_know() -> None:
    async with CosmosAccount("East US", "West US", every_region_writes=True) as account:
        account.create("d", "c", container_definition())
        for knows in (False, True):
            async with CosmosClient(
                account.places["West US"].url,
                account.key,
                enable_endpoint_discovery=False,
                multiple_write_locations=knows,
            ) as client:
                there = client.get_database_client("d").get_container_client("c")
                if knows:
                    await there.create_item(item())
                else:
                    assert await status(there.create_item(item())) == (403, 3)


async def test_unsigned_requests_are_refused(account: CosmosAccount) -> None:
    async with aiohttp.ClientSession() as session, session.get(account.url) as answer:
        assert answer.status == 401


async def test_it_runs_as_a_process() -> None:
    process = await create_subprocess_exec(
        sys.executable, "-m", "tests.cosmos", "--region", "East US", "--container", "d/c", stdout=PIPE
    )
    assert process.stdout is not None
    told = json.loads(await process.stdout.readline())
    async with CosmosClient(told["endpoints"]["East US"], told["key"]) as client:
        container = client.get_database_client("d").get_container_client("c")
        await container.create_item(item())
        assert (await container.read_item("a", "p"))["id"] == "a"
    process.terminate()
    await process.wait()
