"""The shared fixtures themselves: what other tests stand on."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres
from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey
from tests.faults import FaultProxy
from tests.servers import KillablePostgres, KillableValkey

UNANSWERED = (RedisTimeoutError, RedisConnectionError)
"""What redis-py raises when nothing comes back: the second while it connects."""


async def test_valkey_url_is_empty_and_serves(valkey_url: str) -> None:
    async with Redis.from_url(valkey_url) as client:
        assert await client.dbsize() == 0
        await client.set("a", "b")


async def test_valkey_url_is_emptied_between_tests(valkey_url: str) -> None:
    async with Redis.from_url(valkey_url) as client:
        assert await client.dbsize() == 0


@pytest.mark.parametrize("_", [1, 2])
async def test_each_database_is_fresh(database: str, _: int) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE here (n int)")
    await connection.close()


async def test_killed_valkey_keeps_its_data(killable_valkey: Callable[[], Awaitable[KillableValkey]]) -> None:
    server = await killable_valkey()
    url = server.url
    async with Redis.from_url(url) as client:
        await client.set("a", "b")
        assert await client.waitaof(1, 0, 0) == [1, 0]
    await server.kill()
    await server.restart()
    assert server.url == url
    async with Redis.from_url(url) as client:
        assert await client.get("a") == b"b"


async def test_killed_postgres_keeps_what_was_committed(
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
) -> None:
    server = await killable_postgres()
    connection = await asyncpg.connect(server.dsn)
    await connection.execute("CREATE TABLE kept (n int)")
    await connection.execute("INSERT INTO kept VALUES (7)")
    await server.kill()
    connection.terminate()
    await server.restart()
    connection = await asyncpg.connect(server.dsn)
    assert await connection.fetchval("SELECT n FROM kept") == 7
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.close()


async def test_paused_servers_do_not_answer(
    killable_valkey: Callable[[], Awaitable[KillableValkey]],
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
) -> None:
    cache, database = await killable_valkey(), await killable_postgres()
    connection = await asyncpg.connect(database.dsn)
    cache.pause()
    database.pause()
    async with Redis.from_url(cache.url, socket_timeout=0.3, retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(UNANSWERED):
            await client.ping()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(fetch := asyncio.get_running_loop().create_task(_one(connection))), 0.3)
    cache.resume()
    database.resume()
    assert await fetch == 1
    await connection.close()
    async with Redis.from_url(cache.url) as client:
        assert await client.ping()


async def _one(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    value: int = await connection.fetchval("SELECT 1")
    return value


async def test_fault_proxy_before_valkey(valkey: EmbeddedValkey, valkey_url: str) -> None:
    password = valkey.password
    async with FaultProxy(valkey.socket) as proxy:

        def connect() -> Redis:
            retry = Retry(NoBackoff(), 0)
            return Redis(host=proxy.host, port=proxy.port, password=password, socket_timeout=0.5, retry=retry)

        async def incr() -> int:
            async with connect() as client:
                return int(await client.incr("n"))

        assert await incr() == 1
        proxy.delay(1)
        with pytest.raises(UNANSWERED):
            await incr()
        await proxy.heal()
        proxy.blackhole()
        with pytest.raises(UNANSWERED):
            await incr()
        await proxy.refuse()
        with pytest.raises(RedisConnectionError):
            await incr()
        await proxy.heal()
        async with connect() as client:
            before = int(await client.get("n") or 0)
            proxy.lose_next_reply()
            with pytest.raises(RedisConnectionError):
                await client.incr("n")
            assert await client.ping()
            proxy.cut_after(1)
            with pytest.raises(RedisConnectionError):
                await client.incr("n")
            assert proxy.replies_lost == 2
            assert await client.get("n") == b"%d" % (before + 2)


async def test_fault_proxy_before_postgres(postgres: EmbeddedPostgres) -> None:
    async with FaultProxy(postgres.socket) as proxy:
        dsn = f"postgresql://agentmemory@{proxy.host}:{proxy.port}/agentmemory"
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT 1") == 1
        proxy.lose_next_reply()
        with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
            await connection.fetchval("SELECT 2")
        await proxy.refuse()
        with pytest.raises(ConnectionError):
            await asyncpg.connect(dsn)
