"""Wrapped sealing keys in PostgreSQL, beside the state."""

from collections.abc import Sequence

from agentmemory_sidecar.stores.postgres import statements as sql
from agentmemory_sidecar.stores.postgres.pool import Pool
from agentmemory_sidecar.stores.protocols import WrappedKey


class PostgresKeyShelf:
    """:class:`KeyShelf` in the table ``agentmemory.keys``, over the connections of the state store."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keys(self, tenant: str, subject: str) -> Sequence[WrappedKey]:
        rows = await self._pool.run(sql.KEYS, tenant, subject, writes=False)
        return [WrappedKey(generation, data) for generation, data in rows]

    async def put(self, tenant: str, subject: str, key: WrappedKey) -> WrappedKey:
        if await self._pool.run(sql.PUT_KEY, tenant, subject, key.generation, key.data, writes=True):
            return key
        ((data,),) = await self._pool.run(sql.KEY, tenant, subject, key.generation, writes=False)
        return WrappedKey(key.generation, data)
