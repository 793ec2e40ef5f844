"""PostgreSQL as archive and blob store: what is its own, beside the conformance suite."""

import asyncio

import asyncpg
import pytest

from agentmemory_sidecar.stores.postgres import PostgresObjectStore, PostgresOptions
from agentmemory_sidecar.stores.protocols import ObjectStore
from tests.sidecar.stores.conformance.backends import Backend
from tests.sidecar.stores.conformance.objects import ObjectConformance, fresh, listed


class TestObjects(ObjectConformance):
    backend = "postgres"

    async def test_records_and_blobs_are_apart(self, store: ObjectStore, postgres_dsn: str) -> None:
        key = fresh() + "1"
        blobs = PostgresObjectStore(PostgresOptions(postgres_dsn), "blobs")
        await store.put({key: b"record"})
        assert await blobs.get(key) is None
        assert await listed(blobs, key) == []
        await blobs.put({key: b"blob"})
        assert await store.get(key) == b"record"
        await blobs.close()

    async def test_writers_of_many_objects_do_not_deadlock(self, at: Backend[ObjectStore]) -> None:
        # Enough for the statements to overlap; one goes through them backwards.
        prefix, other = fresh(), at.second()
        await asyncio.gather(at.store.ping(), other.ping())
        objects = {f"{prefix}{number:06}": b"x" for number in range(4000)}
        await asyncio.gather(at.store.put(objects), other.put(dict(reversed(objects.items()))))
        assert await listed(at.store, prefix) == list(objects)

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE agentmemory.objects SET data = 'x'",
            "UPDATE agentmemory.objects SET created_at = now() WHERE false",
            "DELETE FROM agentmemory.objects",
            "TRUNCATE agentmemory.objects",
            "INSERT INTO agentmemory.objects (namespace, key, data) SELECT namespace, key, 'x' FROM agentmemory.objects"
            " ON CONFLICT (namespace, key) DO UPDATE SET data = excluded.data",
            "MERGE INTO agentmemory.objects USING (VALUES (1)) AS one (n) ON true WHEN MATCHED THEN DELETE",
        ],
    )
    @pytest.mark.parametrize("part", ["origin", "replica"])
    async def test_the_server_refuses_changes_by_the_owner(
        self, store: ObjectStore, postgres_dsn: str, change: str, part: str
    ) -> None:
        key = fresh() + "1"
        await store.put({key: b"one"})
        connection = await asyncpg.connect(postgres_dsn)
        try:
            await connection.execute(f"SET session_replication_role = {part}")
            owner = "SELECT tableowner = current_user FROM pg_tables WHERE tablename = 'objects'"
            assert await connection.fetchval(owner)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await connection.execute(change)
        finally:
            await connection.close()
        assert await store.get(key) == b"one"
