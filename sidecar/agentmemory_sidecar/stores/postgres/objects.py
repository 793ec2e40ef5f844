"""Archive records and blobs in PostgreSQL: rows that the server refuses to change."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Literal

from agentmemory_sidecar.stores.postgres import statements as sql
from agentmemory_sidecar.stores.postgres.options import PostgresOptions
from agentmemory_sidecar.stores.postgres.pool import Pool
from agentmemory_sidecar.stores.postgres.schema import check
from agentmemory_sidecar.stores.protocols import AlreadyWritten

PAGE = 1000
"""Keys in one round trip of :meth:`PostgresObjectStore.keys`."""


class PostgresObjectStore:
    """:class:`ObjectStore` in one namespace of the table ``agentmemory.objects``. Connects at the first call."""

    def __init__(self, options: PostgresOptions, namespace: Literal["records", "blobs"]) -> None:
        self._namespace = namespace
        self._pool = Pool(options, check)

    async def put(self, objects: Mapping[str, bytes]) -> None:
        """As :meth:`ObjectStore.put`; of several objects all new ones are stored, or (StoreUnavailable) none."""
        if not objects:
            return
        keys = sorted(objects)  # two writers of the same keys then wait for each other, and never deadlock
        data = [objects[key] for key in keys]
        added = {key for (key,) in await self._pool.run(sql.PUT_OBJECTS, self._namespace, keys, data, writes=True)}
        if len(added) == len(keys):
            return
        there = [key for key in keys if key not in added]
        for key, digest in await self._pool.run(sql.OBJECT_DIGESTS, self._namespace, there, writes=False):
            if digest != hashlib.sha256(objects[key]).digest():
                raise AlreadyWritten(f"{self._namespace}: {key} holds other bytes")

    async def get(self, key: str) -> bytes | None:
        rows = await self._pool.run(sql.GET_OBJECT, self._namespace, key, writes=False)
        return rows[0][0] if rows else None

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        last = ""
        while True:
            page = await self._pool.run(sql.OBJECT_KEYS, self._namespace, prefix, last, PAGE, writes=False)
            for (last,) in page:
                if not last.startswith(prefix):
                    return
                yield last
            if len(page) < PAGE:
                return

    async def ping(self) -> None:
        await self._pool.check_writable()

    async def close(self) -> None:
        await self._pool.close()
