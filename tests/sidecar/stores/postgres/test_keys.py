"""PostgreSQL as the shelf of sealing keys: the conformance suite, and what the server itself refuses."""

import asyncpg
import pytest

from agentmemory_sidecar.stores.postgres import PostgresKeyShelf, PostgresStateStore
from agentmemory_sidecar.stores.protocols import KeyShelf, StateStore, WrappedKey
from tests.sidecar.stores.conformance.keys import KeyConformance, tenant


class TestKeys(KeyConformance):
    backend = "postgres"

    def shelf_of(self, state: StateStore) -> KeyShelf:
        assert isinstance(state, PostgresStateStore)
        return PostgresKeyShelf(state.pool)

    async def test_key_can_be_destroyed_and_nothing_else(self, shelf: KeyShelf, postgres_dsn: str) -> None:
        t = tenant()
        await shelf.put(t, "u", WrappedKey(1, b"first"))
        connection = await asyncpg.connect(postgres_dsn)
        mine = "WHERE tenant = $1"
        for forbidden in (
            f"UPDATE agentmemory.keys SET data = 'another' {mine}",
            f"UPDATE agentmemory.keys SET data = '', subject = 'v' {mine}",
            f"DELETE FROM agentmemory.keys {mine}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await connection.execute(forbidden, t)
        await connection.execute(f"UPDATE agentmemory.keys SET data = '' {mine}", t)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await connection.execute(f"UPDATE agentmemory.keys SET data = 'back' {mine}", t)
        await connection.close()

        assert await shelf.keys(t, "u") == [WrappedKey(1, b"")]
