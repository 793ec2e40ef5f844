"""Connections that break, hang, are cut or cancelled: what a caller sees, and what the next one sees."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresStateStore, migrate, pool
from agentmemory_sidecar.stores.protocols import Conversation, StoreUnavailable, Versions
from tests.faults import FaultProxy
from tests.servers import KillablePostgres
from tests.sidecar.stores.conformance.backends import postgres_options, postgres_target
from tests.sidecar.stores.conformance.state import create, fresh, update

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'agentmemory' AND datname = current_database()"


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[FaultProxy]:
    await migrate(database)
    async with FaultProxy(postgres_target(database)) as proxy:
        yield proxy


@pytest.fixture
async def admin(database: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


Opened = Callable[..., PostgresStateStore]


@pytest.fixture
async def opened(proxy: FaultProxy, database: str) -> AsyncIterator[Opened]:
    """``store = opened(timeout_s=…)``: stores through the proxy, closed at the end."""
    stores: list[PostgresStateStore] = []

    def open_(**options: Any) -> PostgresStateStore:
        through = postgres_options(database, proxy)
        stores.append(PostgresStateStore(PostgresOptions(through.dsn, **options)))
        return stores[-1]

    yield open_
    for store in stores:
        await store.close()


@asynccontextmanager
async def held(admin: "asyncpg.Connection[Any]", talk: Conversation) -> AsyncIterator[None]:
    """Nobody can write this item inside."""
    async with admin.transaction():
        await admin.execute("SELECT 1 FROM agentmemory.items WHERE tenant = $1 FOR UPDATE", talk.tenant)
        yield


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def waiting(admin: "asyncpg.Connection[Any]", count: int = 1) -> None:
    """Until so many statements wait for a lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    async def enough() -> bool:
        await admin.execute("SELECT pg_stat_clear_snapshot()")
        return bool(await admin.fetchval(sql) >= count)

    await until(enough)


async def backends_are(admin: "asyncpg.Connection[Any]", count: int) -> bool:
    return len(await admin.fetch(BACKENDS)) == count


async def test_after_a_restart_the_next_read_works(
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
) -> None:
    server = await killable_postgres()
    await migrate(server.dsn)
    store = PostgresStateStore(PostgresOptions(server.dsn))
    talk = fresh()
    await create(store, talk)
    await asyncio.gather(*(store.read(talk) for _ in range(4)))
    await server.kill()
    with pytest.raises(StoreUnavailable) as refused:
        await update(store, talk, b"two", 2)
    assert refused.value.definite
    await server.restart()
    assert (await store.read(talk)).body == b"one"
    await asyncio.gather(*(store.read(talk) for _ in range(4)))
    await server.restart()
    await update(store, talk, b"two", 2)
    assert (await store.read(talk)).body == b"two"
    await store.close()


@pytest.mark.parametrize("seen", [True, False])
async def test_a_write_is_not_sent_on_a_connection_that_the_server_has_closed(
    opened: Opened, admin: "asyncpg.Connection[Any]", seen: bool
) -> None:
    store, talk = opened(), fresh()
    await create(store, talk)
    for (pid,) in await admin.fetch(BACKENDS):
        await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    if seen:
        await asyncio.sleep(0.05)
    await update(store, talk, b"two", 2)
    assert (await store.read(talk)).body == b"two"


async def test_a_goodbye_that_the_loop_has_not_read_is_seen(opened: Opened, admin: "asyncpg.Connection[Any]") -> None:
    store, talk = opened(), fresh()
    await create(store, talk)
    link = store._pool._idle[-1]
    transport = link._connection._transport  # type: ignore[attr-defined]
    transport.pause_reading()  # as if the loop had not come round to it
    for (pid,) in await admin.fetch(BACKENDS):
        await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)

    async def arrived() -> bool:
        return bool(link._arrivals.poll(0))

    await until(arrived)
    assert not link.closed
    await update(store, talk, b"two", 2)
    assert link.closed


async def test_a_connection_that_died_silently_is_probed_before_a_write(
    proxy: FaultProxy, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, talk = opened(timeout_s=1.0), fresh()
    await create(store, talk)
    monkeypatch.setattr(pool, "PROBE_AFTER_S", -1.0)
    proxy.blackhole()
    with pytest.raises(StoreUnavailable) as refused:
        await update(store, talk, b"two", 2)
    assert refused.value.definite
    await proxy.heal()
    assert await store.versions(talk) == Versions(1, 1)
    await update(store, talk, b"two", 2)


async def test_a_read_that_hangs_on_an_old_connection_is_asked_again_on_a_new_one(
    proxy: FaultProxy, opened: Opened
) -> None:
    store, talk = opened(timeout_s=4.0), fresh()
    await create(store, talk)
    proxy.blackhole()
    reading = asyncio.gather(store.read(talk))
    link = store._pool._idle[-1]

    async def cut() -> bool:
        return link.closed

    await until(cut)
    await proxy.heal()
    (stored,) = await reading
    assert stored.body == b"one"


async def test_a_silent_store_is_given_up_and_a_write_left_in_doubt(proxy: FaultProxy, opened: Opened) -> None:
    store, talk = opened(timeout_s=0.5), fresh()
    await create(store, talk)
    await update(store, talk, b"two", 2)
    proxy.blackhole()
    async with asyncio.timeout(30):
        with pytest.raises(StoreUnavailable) as lost:
            await update(store, talk, b"three", 3)
        assert not lost.value.definite
        with pytest.raises(StoreUnavailable) as refused:
            await update(store, talk, b"three", 3)
        assert refused.value.definite
        with pytest.raises(StoreUnavailable):
            await store.read(talk)
    await proxy.heal()
    assert (await store.versions(talk)).turn in (2, 3)


async def test_a_write_that_waits_too_long_is_given_up(opened: Opened, admin: "asyncpg.Connection[Any]") -> None:
    store, talk = opened(timeout_s=0.5), fresh()
    await create(store, talk)
    async with held(admin, talk):
        with pytest.raises(StoreUnavailable):
            await update(store, talk, b"two", 2)

        # The server gives up too: nothing takes effect long after the caller was told.
        async def gone() -> bool:
            return not await admin.fetchval(f"SELECT count(*) FROM ({BACKENDS}) AS b JOIN pg_locks USING (pid)")

        await until(gone)
    assert await store.versions(talk) == Versions(1, 1)


async def test_a_call_that_gets_no_connection_is_definite(opened: Opened) -> None:
    store, talk = opened(timeout_s=0.3, pool_size=1), fresh()
    await create(store, talk)
    async with store._pool._slots:
        with pytest.raises(StoreUnavailable, match="busy") as refused:
            await update(store, talk, b"two", 2)
    assert refused.value.definite
    await update(store, talk, b"two", 2)


async def test_cancelled_calls_leave_the_pool_sound(opened: Opened, admin: "asyncpg.Connection[Any]") -> None:
    store, talk = opened(pool_size=2), fresh()
    await create(store, talk)
    for _ in range(5):
        async with held(admin, talk):
            # Locks, for writes to one item would go together. One that was given up may still take effect: for no time.
            calls = [asyncio.ensure_future(store.lock(talk, f"{n}", 0.0)) for n in range(6)]  # noqa: TID251
            await waiting(admin, 2)
            for call in calls:
                call.cancel()
            assert all(
                isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*calls, return_exceptions=True)
            )
            # Those that the server still has: no answer of theirs may reach another call.
            other = fresh()
            await create(store, other, b"another")
            assert (await store.read(other)).body == b"another"
        await asyncio.gather(*(store.read(talk) for _ in range(8)))
    await until(lambda: backends_are(admin, 2))


async def test_the_pool_opens_no_more_than_its_size(opened: Opened, admin: "asyncpg.Connection[Any]") -> None:
    store, talk = opened(pool_size=3), fresh()
    await create(store, talk)
    await asyncio.gather(*(store.read(talk) for _ in range(50)))
    assert 1 <= len(await admin.fetch(BACKENDS)) <= 3


async def test_one_call_after_another_takes_one_connection(opened: Opened, admin: "asyncpg.Connection[Any]") -> None:
    store, talk = opened(), fresh()
    await create(store, talk)
    for step in range(2, 12):
        await update(store, talk, b"x", step)
    assert len(await admin.fetch(BACKENDS)) == 1


async def test_connections_that_nobody_needs_are_closed(
    opened: Opened, admin: "asyncpg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    store, talk = opened(pool_size=4), fresh()
    await asyncio.gather(*(store.read(talk) for _ in range(8)))
    assert len(await admin.fetch(BACKENDS)) == 4
    monkeypatch.setattr(pool, "CLOSE_AFTER_S", -1.0)
    for _ in range(4):
        await store.read(talk)
    await until(lambda: backends_are(admin, 1))


async def test_a_standby_is_no_server(opened: Opened, database: str, admin: "asyncpg.Connection[Any]") -> None:
    store, talk = opened(), fresh()
    await create(store, talk)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    fresh_store = opened()
    with pytest.raises(StoreUnavailable) as refused:
        await fresh_store.versions(talk)
    assert refused.value.definite
    await admin.execute(
        f"SET default_transaction_read_only = off; ALTER DATABASE {name} RESET default_transaction_read_only"
    )
    assert await fresh_store.versions(talk) == Versions(1, 1)


async def test_a_password_is_asked_for_with_each_connection(proxy: FaultProxy, opened: Opened) -> None:
    asked = []

    async def password() -> str:
        asked.append(1)
        return "token"

    store, talk = opened(password=password), fresh()
    await store.versions(talk)
    proxy.cut()
    await store.versions(talk)
    assert len(asked) == 2


@pytest.mark.parametrize("dsn", ["postgresql://127.0.0.1:1/db", "postgresql://u:hunter2@127.0.0.1:por:t/db"])
async def test_an_unusable_dsn_is_a_definite_failure(dsn: str) -> None:
    store = PostgresStateStore(PostgresOptions(dsn))
    with pytest.raises(StoreUnavailable) as refused:
        await store.ping()
    assert refused.value.definite
    assert "hunter2" not in str(refused.value)
    await store.close()


async def test_a_connection_that_is_cut_while_a_statement_is_prepared_is_a_lost_one(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg learns of types in round trips of their own, and a deadline may come between two of them."""
    introspect = asyncpg.Connection._introspect_types  # type: ignore[attr-defined]

    async def cut_first(self: "asyncpg.Connection[Any]", *args: Any) -> Any:
        self.terminate()
        return await introspect(self, *args)

    store = opened()
    await store.ping()
    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", cut_first)
    with pytest.raises(StoreUnavailable) as failure:
        await store.lock(fresh(), "token", 60)
    assert failure.value.definite
    monkeypatch.undo()
    await store.lock(fresh(), "token", 60)
