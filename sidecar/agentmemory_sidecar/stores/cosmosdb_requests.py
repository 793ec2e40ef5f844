"""The requests that the CosmosDB store sends, one method each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentmemory_sidecar.layout.cosmosdb import PARTITION_KEY
from agentmemory_sidecar.stores.cosmosdb_account import Call
from agentmemory_sidecar.stores.cosmosdb_item import Document
from agentmemory_sidecar.stores.cosmosdb_wire import Refused

if TYPE_CHECKING:
    from azure.cosmos.aio import ContainerProxy

PROPERTY = PARTITION_KEY.removeprefix("/")
BATCH_OPERATIONS = 100
BATCH_BYTES = 1_000_000
"""Of a batch's JSON text, about. CosmosDB takes 2 MB."""


class Changed(Exception):
    """An item was not, or no longer, what the write's condition says."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An item as it was looked at: what there was (None for nothing), and the ETag by which it is still that."""

    document: Document | None
    etag: str


class Requests:
    """One job's requests. What is read here was there when it was asked for, whoever wrote it.

    A plain read of an account with Session consistency may be answered by a replica that is behind. A batch is carried out
    by the partition's primary, even one that only reads; and a query that carries the session token of such an answer sees
    no less than it did. Every write is a batch too: that is a POST, while aiohttp sends a PUT or DELETE whose connection is
    cut once more by itself.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._token = ""
        """The session token of the last answer of a primary."""

    async def read(self, partition: str, item: str) -> Seen:
        async def operation(container: ContainerProxy) -> Seen:
            (answer,) = await container.execute_item_batch([("read", (item,))], partition_key=partition)
            return Seen(answer["resourceBody"], answer["eTag"])

        try:
            return await self._call.repeat(operation)
        except Refused as refused:
            if refused.status != 404 or not refused.on_item:
                raise
            return Seen(None, "")
        finally:
            self._token = self._call.attempt.session_token

    async def query(
        self, partition: str, ids: tuple[str, str], *, limit: int | None = None, only: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """The partition's items with ids from (inclusive) to (exclusive), by id, as they were at this job's last
        :meth:`read` or write of the partition or later; with ``only``, no more than these properties of them."""
        wanted = ", ".join(f"c.{name}" for name in only) or "*"
        top = "" if limit is None else f"TOP {limit} "
        text = f"SELECT {top}{wanted} FROM c WHERE c.id >= @low AND c.id < @high ORDER BY c.id"  # noqa: S608
        parameters: list[dict[str, object]] = [{"name": "@low", "value": ids[0]}, {"name": "@high", "value": ids[1]}]
        token = self._token or None

        async def operation(container: ContainerProxy) -> list[dict[str, Any]]:
            found = container.query_items(text, parameters=parameters, partition_key=partition, session_token=token)
            return [row async for row in found]

        return await self._call.repeat(operation)

    async def marked(self, mark: str, limit: int) -> list[dict[str, Any]]:
        """Where the items with this pending mark lie, at most so many; a replica that is behind may answer."""

        async def operation(container: ContainerProxy) -> list[dict[str, Any]]:
            found = container.query_items(
                f"SELECT c.{PROPERTY}, c.id, c.expires FROM c WHERE c.pending = @mark",  # noqa: S608
                parameters=[{"name": "@mark", "value": mark}],
                max_item_count=limit,
            )
            rows: list[dict[str, Any]] = []
            async for row in found:
                rows.append(row)
                if len(rows) == limit:
                    break
            return rows

        return await self._call.repeat(operation)

    async def create(self, partition: str, item: str, properties: Mapping[str, Any]) -> str:
        """Make an item; its ETag. Raises Changed where it is there."""
        return await self._alone(partition, ("create", (document(partition, item, properties),)))

    async def replace(self, partition: str, item: str, properties: Mapping[str, Any], etag: str) -> str:
        """Write over an item that still has this ETag; its new one. Raises Changed where it has another or is gone."""
        body = document(partition, item, properties)
        return await self._alone(partition, ("replace", (item, body), {"if_match_etag": etag}))

    async def delete(self, partition: str, item: str) -> None:
        """Delete an item; one that is gone is no error."""
        with suppress(Changed):
            await self._alone(partition, ("delete", (item,)))

    async def batch(self, partition: str, operations: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """All of these writes or none. Raises Refused with the number of the one that failed."""

        async def operation(container: ContainerProxy) -> list[dict[str, Any]]:
            # A copy: Azure's client takes the conditions out of what it is given.
            own = [(*each[:2], dict(each[2])) if len(each) > 2 else each for each in operations]
            return list(await container.execute_item_batch(own, partition_key=partition))

        answers = await self._call.once(operation)
        self._token = self._call.attempt.session_token
        return answers

    async def _alone(self, partition: str, operation: tuple[Any, ...]) -> str:
        try:
            (answer,) = await self.batch(partition, [operation])
        except Refused as refused:
            if refused.on_item and refused.status in (404, 409, 412):
                raise Changed from None
            raise
        return str(answer.get("eTag", ""))


def document(partition: str, item: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """An item of a batch."""
    return {"id": item, PROPERTY: partition, **properties}
