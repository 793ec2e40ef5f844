"""Wrapped sealing keys in DynamoDB, in the table of the state: one item for each subject and generation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from agentmemory_sidecar.stores import dynamodb_table as layout
from agentmemory_sidecar.stores.dynamodb_item import Item
from agentmemory_sidecar.stores.dynamodb_requests import Refused, Requests
from agentmemory_sidecar.stores.protocols import WrappedKey

T = TypeVar("T")


class Run(Protocol):
    """Runs a job on the table, in a thread of the store's."""

    def __call__(self, job: Callable[[Requests], T], /) -> Awaitable[T]: ...


class DynamoKeyShelf:
    """:class:`~.protocols.KeyShelf`. Reads are strongly consistent, as all of the store's are.

    Under an Eventual global table that means: consistent in this region. Two regions may then make a key for the same
    new subject; who makes them gives each region generations of its own.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    async def keys(self, tenant: str, subject: str) -> Sequence[WrappedKey]:
        pk = layout.keys_partition(tenant, subject)

        def job(table: Requests) -> Sequence[WrappedKey]:
            return [_key(row) for row in table.query(pk, "!", "\x7f")]

        return await self._run(job)

    async def put(self, tenant: str, subject: str, key: WrappedKey) -> WrappedKey:
        item = {
            "pk": {"S": layout.keys_partition(tenant, subject)},
            "sk": {"S": layout.generation_key(key.generation)},
            "data": {"B": key.data},
        }

        def job(table: Requests) -> WrappedKey:
            try:
                table.put(item, ConditionExpression="attribute_not_exists(pk)")
            except Refused as refused:
                return _key(refused.item)
            return key

        return await self._run(job)


def _key(row: Item) -> WrappedKey:
    return WrappedKey(layout.generation_of(row["sk"]["S"]), bytes(row["data"]["B"]))
