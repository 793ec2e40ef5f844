"""A sidecar from its start to its end: it drains, frees its locks, and leaves nothing undone that another cannot do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from agentmemory_sidecar.app import Address, Sidecar
from agentmemory_sidecar.resource.store_config import AwsConfig, DynamoDbState, PostgresStore, S3Archive
from agentmemory_sidecar.stores import opened
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from tests.claude import Reply, StrictClaude
from tests.cosmos import CosmosAccount
from tests.ministack import Ministack
from tests.servers import KillablePostgres
from tests.sidecar.agents import Agent, injections, todos, unharmed
from tests.sidecar.conftest import Configure, Start
from tests.sidecar.stand import LOOPBACK, Json, Stand
from tests.sidecar.stores.conformance.aws_backends import REGION, new_bucket, new_table
from tests.sidecar.stores.conformance.cosmos_backends import CONTAINER, DATABASE, with_container

QUESTION: list[Json] = [{"role": "user", "content": "Go."}]


async def test_addresses_are_told_as_urls_need_them() -> None:
    assert str(Address("127.0.0.1", 80)) == "127.0.0.1:80"
    assert str(Address("::1", 80)) == "[::1]:80"


async def test_running_steps_end_and_new_ones_are_refused(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start()
    agent, late = connect(stand), connect(stand)
    await late.good("Hello.")  # an open connection: the port itself is closed at once
    claude.script(Reply(first_byte_ms=300))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.good("Go."))
        await claude.received(2)
        stopping = group.create_task(stand.sidecar.stop(30))
        while not stand.sidecar.proxy.stopping:  # noqa: ASYNC110
            await asyncio.sleep(0)
        refused = await late.send(messages=QUESTION)

    assert stopping.done()
    assert (refused.status, refused.code, refused.headers["x-should-retry"]) == (503, "shutting_down", "true")
    assert asking.result().commit == "committed"
    assert len(claude.requests) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_step_that_does_not_end_in_time_is_cut_and_its_session_freed(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude, stream: bool
) -> None:
    first = await start()
    second = await start(first.config, pod="another")
    agent = connect(first, stream=stream)
    claude.script(Reply(blocks=["word " * 50], fault="stall" if stream else "hang"))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_outcome(agent))
        await claude.received(1)
        await first.sidecar.stop(0.1)

    assert asking.result() != "whole"
    assert await second.locks(agent.session) == []
    assert await second.turn(agent.session) == 0
    again = await connect(second, session=agent.session).good("Go.")
    assert again.receipt["turn"] == "1"


async def _outcome(agent: Agent) -> str:
    import aiohttp

    try:
        answer = await agent.send(messages=QUESTION)
    except aiohttp.ClientError:
        return "cut"
    return "cut" if answer.cut or answer.status != 200 else "whole"


async def test_memory_outlives_the_sidecar_and_redis(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    first = await start()
    agent = connect(first)
    claude.script(Reply(blocks=[todos("book the hall")]))
    await agent.results(await agent.good("The word is heliotrope. Plan the party."))
    await agent.good("Which hall?")
    await first.stop()

    second = await start(first.config, pod="another")
    await second.forget_hot()
    old, new = connect(second, session=agent.session, messages=agent.messages), connect(second, session=agent.session)
    goes_on = await old.good("Go on.")
    told = await new.good("What is the word?")

    assert (goes_on.receipt["tier"], goes_on.receipt["turn"]) == ("state", "4")
    assert "heliotrope" in told.text
    assert await second.sub_tasks(agent.session) == ["book the hall"]
    assert unharmed(claude)


async def test_records_of_a_stopped_sidecar_are_carried_by_another(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    first = await start()
    agent = connect(first)
    for number in range(3):
        await agent.good(f"Go on, {number}.")
    await first.stop()
    second = await start(first.config, pod="another")
    await second.services.archiver.sweep()

    assert not (await second.item(agent.session)).pending
    prefix = f"{second.config.tenant}/"
    found = [key async for key in second.services.archiver._records.keys(prefix)]
    assert len(found) == 3


async def test_two_sidecars_share_a_session(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    first = await start()
    second = await start(first.config, pod="another")
    agent = connect(first)
    for number in range(4):
        agent.url = (first, second)[number % 2].url
        answer = await agent.good(f"Go on, {number}.")
        assert answer.receipt["turn"] == str(number + 1)
    assert answer.receipt["tier"] == "hot"
    assert unharmed(claude)


async def test_database_without_our_tables_gets_them(
    start: Start, connect: Callable[..., Agent], database: str
) -> None:
    stand = await start({}, postgres=database)

    assert (await connect(stand).good("Go.")).commit == "committed"


async def test_database_that_cannot_be_reached_is_waited_for(
    start: Start,
    connect: Callable[..., Agent],
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it comes, turns end as the resource says."""
    monkeypatch.setattr(opened, "TABLES_PAUSE_S", 0.05)
    postgres = await killable_postgres()
    await postgres.kill()
    stand = await start({}, postgres=postgres.dsn)
    (warning,) = [record for record in caplog.records if record.name == opened.__name__]
    refused = await connect(stand).send(messages=QUESTION)
    await postgres.restart()
    async with asyncio.timeout(60):
        while (answer := await connect(stand).send(messages=QUESTION)).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    assert warning.levelname == "WARNING"
    assert "starting without it, and trying again" in warning.getMessage()
    assert (refused.status, refused.code) == (503, "memory_unavailable")
    assert answer.commit == "committed"


async def test_database_that_is_not_ours_to_use_ends_the_start(configure: Configure, database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE SCHEMA agentmemory; CREATE TABLE agentmemory.chunks (in_the_way integer)")
    await connection.close()
    sidecar = Sidecar(configure(postgres=database))

    with pytest.raises(
        StoreUnavailable, match=r'relation "chunks" already exists \(42P07\); the schema agentmemory must'
    ):
        await sidecar.start(LOOPBACK, LOOPBACK)


async def test_port_that_is_taken_is_an_error_and_leaves_nothing_open(configure: Configure, stand: Stand) -> None:
    sidecar = Sidecar(configure())

    with pytest.raises(OSError, match="address already in use"):
        await sidecar.start(LOOPBACK, stand.sidecar.admin_address)

    await sidecar.stop(1)


# -------------------------------------------------------------------------------------------------------- DynamoDB and S3


@pytest.fixture
async def aws(configure: Configure, start: Start, ministack: Ministack) -> Stand:
    """A sidecar on DynamoDB and S3."""
    access = AwsConfig(region=REGION, endpoint=ministack.url)
    table = DynamoDbState(table=new_table(ministack), aws=access)
    bucket = S3Archive(bucket=new_bucket(ministack), path_style=True, aws=access)
    config = configure({"regions": [REGION], "state": {"timeout": "30s"}, "archive": {"timeout": "30s"}})
    assert isinstance(config.state, PostgresStore)
    return await start(config.model_copy(update={"state": table, "archive": bucket}))


@pytest.fixture
async def azure(configure: Configure, start: Start, tmp_path: Path) -> AsyncIterator[Stand]:
    """A sidecar on CosmosDB, whose replicas are behind, and Postgres."""
    async with CosmosAccount() as account:
        with_container(account).faults.behind = 1_000_000
        key = tmp_path / "cosmos.key"
        key.write_text(account.key)
        access = {"endpoint": account.url, "keyFrom": {"file": str(key)}, "database": DATABASE, "container": CONTAINER}
        stand = await start(configure({"state": {"cosmosdb": access, "timeout": "30s"}}))
        yield stand
        await stand.stop()


@pytest.fixture(params=["aws", "azure"])
def cloud(request: pytest.FixtureRequest) -> Stand:
    stand: Stand = request.getfixturevalue(request.param)
    return stand


async def test_conversation_on_stores_of_the_cloud(
    cloud: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(cloud)
    big = f"{uuid4().hex} " * 10_000
    claude.script(Reply(blocks=[todos("book the hall")]))
    step = await agent.good("The word is heliotrope. Plan the party.")
    claude.script("I see.")
    await agent.results(step, big)
    third = await agent.good("Which hall?")
    await cloud.settled()
    await cloud.forget_hot()
    told = await agent.fresh().good("What is the word?")
    repeated = agent.fresh(messages=[], stream=False)
    await cloud.acknowledged(agent.session)
    await cloud.forget_hot()
    again = await repeated.send(messages=[{"role": "user", "content": "What is the word?"}])
    # Records reach the bucket, and the item forgets them.
    await cloud.services.archiver.drain()
    while (await cloud.item(agent.session)).pending:
        await cloud.services.archiver.sweep()

    assert (third.receipt["tier"], told.receipt["tier"]) == ("hot", "state")
    assert "heliotrope" in told.text
    assert (again.commit, again.text) == ("repeated", told.text)
    assert await cloud.sub_tasks(agent.session) == ["book the hall"]
    assert "book the hall" in "".join(injections(claude.requests[2].messages))
    records = await cloud.records(agent.session, export=True)
    assert [record["seq"] for record in records] == [1, 2, 3, 4]
    assert records[1]["payload"]["messages"][0]["content"][0]["content"] == big
    assert len((await cloud.stored(agent.session)).body) < 50_000
    assert unharmed(claude)


async def test_table_and_bucket_that_do_not_exist_are_warned_of(
    configure: Configure, start: Start, ministack: Ministack, caplog: pytest.LogCaptureFixture
) -> None:
    access = AwsConfig(region=REGION, endpoint=ministack.url)
    config = configure({"regions": [REGION], "state": {"timeout": "30s"}, "archive": {"timeout": "30s"}})
    table, bucket = DynamoDbState(table="nowhere", aws=access), S3Archive(bucket="nowhere", aws=access)
    await start(config.model_copy(update={"state": table, "archive": bucket}))

    first, second = (record.getMessage() for record in caplog.records if record.name == opened.__name__)
    assert first.startswith(f"dynamodb: table 'nowhere' not found in {REGION} at {ministack.url}: create it (docs/")
    assert second.startswith("s3: bucket 'nowhere' not found")


async def test_failure_and_subagents_on_stores_of_the_cloud(
    cloud: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(cloud)
    claude.script(Reply(fault="no_message_stop"))
    assert (await agent.send(messages=QUESTION)).cut
    await agent.good("Go.")
    sub = agent.fresh(headers={"x-claude-code-agent-id": "a1"})
    claude.script(Reply(blocks=[todos("look into it")]))
    await sub.results(await sub.good("You are a subagent."))
    await cloud.settled()

    assert await cloud.turn(agent.session) == 1
    assert await cloud.sub_tasks(agent.session) == ["look into it"]
    await cloud.remember(agent.session, {"extracted_context": {"a": 1}})
    assert (await agent.good("Go on.")).receipt["turn"] == "2"
    assert unharmed(claude)
