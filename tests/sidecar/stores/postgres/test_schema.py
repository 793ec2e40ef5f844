"""Migrations, applied to databases of their own."""

import asyncio
import logging
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from agentmemory_sidecar.layout.postgres import NEEDED
from agentmemory_sidecar.stores.postgres import (
    PostgresKeyShelf,
    PostgresObjectStore,
    PostgresOptions,
    PostgresStateStore,
    SchemaMismatch,
    migrate,
)
from agentmemory_sidecar.stores.protocols import StoreUnavailable, WrappedKey
from tests.sidecar.stores.conformance.state import create, fresh


async def execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def test_a_second_run_changes_nothing(database: str) -> None:
    assert await migrate(database) == list(range(1, NEEDED + 1))
    assert await migrate(PostgresOptions(database)) == []


async def test_runs_at_once_apply_each_migration_once(database: str) -> None:
    applied = await asyncio.gather(*(migrate(database) for _ in range(6)))
    assert sorted(applied) == [[]] * 5 + [list(range(1, NEEDED + 1))]


async def test_a_migration_that_fails_leaves_nothing(database: str) -> None:
    await execute(database, "CREATE SCHEMA agentmemory; CREATE TABLE agentmemory.chunks (in_the_way integer)")
    with pytest.raises(StoreUnavailable, match="taken back"):
        await migrate(database)
    await execute(database, "DROP TABLE agentmemory.chunks")
    assert await migrate(database) == list(range(1, NEEDED + 1))


async def test_without_tables_a_store_says_what_to_do(database: str) -> None:
    state, objects = (
        PostgresStateStore(PostgresOptions(database)),
        PostgresObjectStore(PostgresOptions(database), "blobs"),
    )
    with pytest.raises(SchemaMismatch, match=r"do not exist.*run the migrations") as refused:
        await state.ping()
    assert (refused.value.definite, refused.value.found) == (True, 0)
    with pytest.raises(SchemaMismatch):
        await objects.get("key")
    await migrate(database)
    await state.ping()
    assert await objects.get("key") is None
    await state.close()
    await objects.close()


async def test_tables_of_an_older_release_are_refused_and_of_a_newer_one_used(database: str) -> None:
    await migrate(database)
    store = PostgresStateStore(PostgresOptions(database))
    await execute(database, f"UPDATE agentmemory.schema_version SET version = 99 WHERE version = {NEEDED}")
    await store.ping()
    await store.close()
    await execute(database, "DELETE FROM agentmemory.schema_version WHERE version = 99")
    store = PostgresStateStore(PostgresOptions(database))
    with pytest.raises(SchemaMismatch, match=f"are at version {NEEDED - 1}, this release needs version {NEEDED}"):
        await store.ping()
    await store.close()


async def test_a_role_without_rights_is_told_so(database: str) -> None:
    await migrate(database)
    await execute(
        database,
        "DO $$ BEGIN CREATE ROLE nobodys LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    parts = urlsplit(database)
    dsn = urlunsplit(parts._replace(netloc=parts.netloc.replace(parts.username or "", "nobodys", 1)))
    store = PostgresStateStore(PostgresOptions(dsn))
    with pytest.raises(StoreUnavailable, match="permission denied for schema agentmemory"):
        await store.ping()
    await store.close()


async def test_a_role_needs_no_more_than_rows(database: str) -> None:
    # What a sidecar's role is granted, so that roles can be split without a change here.
    await migrate(database)
    await execute(
        database,
        """DO $$ BEGIN CREATE ROLE sidecars LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        GRANT USAGE ON SCHEMA agentmemory TO sidecars;
        GRANT SELECT ON agentmemory.schema_version TO sidecars;
        GRANT SELECT, INSERT, UPDATE ON agentmemory.items TO sidecars;
        GRANT SELECT, INSERT ON agentmemory.ledger, agentmemory.subjects, agentmemory.objects, agentmemory.keys
            TO sidecars;
        GRANT SELECT, INSERT, DELETE ON agentmemory.chunks TO sidecars""",
    )
    parts = urlsplit(database)
    dsn = urlunsplit(parts._replace(netloc=parts.netloc.replace(parts.username or "", "sidecars", 1)))
    state, objects = PostgresStateStore(PostgresOptions(dsn)), PostgresObjectStore(PostgresOptions(dsn), "records")
    talk = fresh()
    await create(state, talk)
    await state.lock(talk, "mine", 60, {"k": b"entry"})
    await state.unlock(talk, "mine")
    await state.put_chunks(talk, "n", b"data")
    await state.delete_chunks(talk, "n")
    await state.index(talk.tenant, "u", talk.session)
    await objects.put({"k": b"data"})
    await objects.put({"k": b"data"})
    shelf = PostgresKeyShelf(state.pool)
    for data in (b"first", b"second"):
        assert await shelf.put(talk.tenant, "u", WrappedKey(1, data)) == WrappedKey(1, b"first")
    await state.close()
    await objects.close()


async def test_a_server_that_may_forget_is_warned_of(database: str, caplog: pytest.LogCaptureFixture) -> None:
    await migrate(database)
    careless = PostgresStateStore(PostgresOptions(database, settings={"synchronous_commit": "off"}))
    with caplog.at_level(logging.WARNING, "agentmemory_sidecar"):
        await careless.ping()
    assert "synchronous_commit=off" in caplog.text
    await careless.close()
    caplog.clear()
    careful = PostgresStateStore(PostgresOptions(database))
    await careful.ping()
    assert caplog.text == ""
    await careful.close()
