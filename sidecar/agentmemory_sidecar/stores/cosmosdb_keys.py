"""Wrapped sealing keys in CosmosDB, in the container of the state: one item for each subject and generation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from agentmemory_sidecar.stores import cosmosdb_container as layout
from agentmemory_sidecar.stores.cosmosdb_item import Document, data, text
from agentmemory_sidecar.stores.cosmosdb_requests import Changed, Requests
from agentmemory_sidecar.stores.protocols import StoreUnavailable, WrappedKey

T = TypeVar("T")


class Run(Protocol):
    """Runs a job on the container."""

    def __call__(self, job: Callable[[Requests], Awaitable[T]], /) -> Awaitable[T]: ...


class CosmosKeyShelf:
    """:class:`~.protocols.KeyShelf`. Reads see what was written at the same endpoint.

    Where every region writes, two of them may make a key for the same new subject; who makes them gives each region
    generations of its own.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    async def keys(self, tenant: str, subject: str) -> Sequence[WrappedKey]:
        partition = layout.keys_partition(tenant, subject)

        async def job(container: Requests) -> Sequence[WrappedKey]:
            await container.read(partition, layout.generation_id(0))  # there is none; how far the primary has got
            return [_key(row) for row in await container.query(partition, layout.EVERYTHING)]

        return await self._run(job)

    async def put(self, tenant: str, subject: str, key: WrappedKey) -> WrappedKey:
        partition, item = layout.keys_partition(tenant, subject), layout.generation_id(key.generation)

        async def job(container: Requests) -> WrappedKey:
            try:
                await container.create(partition, item, {"data": text(key.data)})
            except Changed:
                standing = (await container.read(partition, item)).document
                if standing is None:
                    raise StoreUnavailable("cosmosdb", "the key to store comes and goes", definite=False) from None
                return _key(standing)
            return key

        return await self._run(job)


def _key(row: Document) -> WrappedKey:
    return WrappedKey(int(row["id"]), data(row["data"]))
