"""Items of global tables. Eventual: each region takes its own writes, and the last writer wins in each. Strong: one copy."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from weakref import WeakValueDictionary

from multidict import CIMultiDict

from tests.aws.links import Links
from tests.aws.tables import Group, Send, Tables
from tests.aws.wire import Call, Refused, Reply

Key = tuple[str, str]
"""A table's name, and the JSON of an item's key."""

Told = Callable[[str, Key, dict[str, Any] | None], None]
"""Is given the region, the item's key, and the item; None for one that was deleted."""

WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})
READS = frozenset({"GetItem", "Query", "Scan", "BatchGetItem"})
TRANSACTIONS = frozenset({"TransactWriteItems", "TransactGetItems"})


class Items:
    """Carries items between the processes that play the regions."""

    def __init__(self, send: Send, links: Links) -> None:
        self._send = send
        self._links = links
        self._locks: WeakValueDictionary[tuple[str, Key], asyncio.Lock] = WeakValueDictionary()
        self._stamps: dict[tuple[str, Key], tuple[int, str]] = {}
        """The write that each region holds of an item: when and where it was made. Tombstones stay."""
        self.dropped = 0
        """How many writes lost to a later one."""
        self.skew_s: dict[str, float] = {}
        """How far a region's clock is off, by which the last writer wins."""
        self.told: Told | None = None
        """Is called for each item of a global table that a region's replica has taken."""

    def clear(self) -> None:
        self._stamps.clear()
        self.skew_s.clear()
        self.dropped = 0

    async def handle(self, call: Call, tables: Tables) -> Reply | None:
        """The answer to a call about items of a global table; None for any other call."""
        body = call.json() if call.operation in WRITES | READS | TRANSACTIONS else {}
        groups = [group for name in _tables(body) if (group := tables.group(call.region, name))]
        if any(group.strong for group in groups):
            return await self._strong(call, groups, body)
        shared = {group.name: group for group in groups if len(group.replicas) > 1}
        if call.operation not in WRITES or not shared:
            return None
        return await self._eventual(call, body, shared)

    async def _eventual(self, call: Call, body: dict[str, Any], shared: dict[str, Group]) -> Reply:
        written = sorted({(name, _key(item, shared[name])) for name, item in _written(call.operation, body, shared)})
        async with AsyncExitStack() as held:
            for key in written:
                await held.enter_async_context(self._lock(call.region, key))
            reply = await self._send(call)
            if reply.status != 200:
                return reply
            for key in written:
                image = await self._image(call, call.region, key)
                stamp = self._stamp(call.region, key)
                self._took(call.region, key, image, stamp)
                for region in set(shared[key[0]].replicas) - {call.region}:
                    self._links.send(call.region, region, self._delivery(call, region, key, image, stamp))
        return reply

    async def _strong(self, call: Call, groups: list[Group], body: dict[str, Any]) -> Reply:
        if call.operation in TRANSACTIONS:
            raise Refused("ValidationException", "Transactions are not supported on tables of STRONG consistency")
        (group,) = {id(group): group for group in groups}.values()
        members = [*group.replicas, *([group.witness] if group.witness else [])]
        if sum(self._links.open(call.region, member) for member in members) < 2:
            raise Refused("InternalServerError", "The other Regions of this table cannot be reached", 500)
        if call.operation not in WRITES:
            return await self._send(call.to(group.anchor))
        keys = [(name, _key(item, group)) for name, item in _written(call.operation, body, {group.name: group})]
        async with AsyncExitStack() as held:
            for key in sorted(set(keys)):
                lock = self._lock(group.anchor, key)
                if lock.locked() and self._stamps.get((group.anchor, key), (0, call.region))[1] != call.region:
                    raise Refused("ReplicatedWriteConflictException", "Another Region is writing this item: try again")
                await held.enter_async_context(lock)
                self._stamps[group.anchor, key] = self._stamp(call.region, key)
            return await self._send(call.to(group.anchor))

    async def copy(self, group: Group, source: str, target: str) -> None:
        """What a new replica begins with."""
        start: dict[str, Any] = {}
        while True:
            page = (await self._ask(source, "Scan", {"TableName": group.name, **start})).json()
            for item in page["Items"]:
                key = (group.name, _key(item, group))
                stamp = self._stamps.get((source, key), (0, source))
                await self._arrive(_signed(target), target, key, item, stamp)
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _delivery(self, call: Call, region: str, key: Key, image: dict[str, Any] | None, stamp: tuple[int, str]) -> Any:
        async def deliver() -> None:
            await self._arrive(call, region, key, image, stamp)

        return deliver

    async def _arrive(
        self, call: Call, region: str, key: Key, image: dict[str, Any] | None, stamp: tuple[int, str]
    ) -> None:
        async with self._lock(region, key):
            if self._stamps.get((region, key), (-1, "")) >= stamp:
                self.dropped += 1
                return
            if image is None:
                body = {"TableName": key[0], "Key": json.loads(key[1])}
                reply = await self._send(call.to(region, json.dumps(body).encode(), "DeleteItem"))
            else:
                body = {"TableName": key[0], "Item": image}
                reply = await self._send(call.to(region, json.dumps(body).encode(), "PutItem"))
            # A replica that has been deleted meanwhile takes nothing any more, and that is all right.
            if reply.status == 200:
                self._took(region, key, image, stamp)

    def _took(self, region: str, key: Key, image: dict[str, Any] | None, stamp: tuple[int, str]) -> None:
        self._stamps[region, key] = stamp
        if self.told is not None:
            self.told(region, key, image)

    async def _image(self, call: Call, region: str, key: Key) -> dict[str, Any] | None:
        body = {"TableName": key[0], "Key": json.loads(key[1]), "ConsistentRead": True}
        reply = await self._send(call.to(region, json.dumps(body).encode(), "GetItem"))
        image: dict[str, Any] | None = reply.json().get("Item")
        return image

    async def _ask(self, region: str, operation: str, body: dict[str, Any]) -> Reply:
        return await self._send(_signed(region).to(region, json.dumps(body).encode(), operation))

    def _lock(self, region: str, key: Key) -> asyncio.Lock:
        return self._locks.setdefault((region, key), asyncio.Lock())

    def _stamp(self, region: str, key: Key) -> tuple[int, str]:
        held = self._stamps.get((region, key), (0, ""))[0]
        return max(held + 1, time.time_ns() + round(self.skew_s.get(region, 0.0) * 1e9)), region


def _signed(region: str) -> Call:
    """A call of the front's own."""
    scope = f"AWS4-HMAC-SHA256 Credential=test/20260101/{region}/dynamodb/aws4_request, SignedHeaders=host, Signature=0"
    headers = CIMultiDict({"Authorization": scope, "Content-Type": "application/x-amz-json-1.0"})
    return Call("POST", "/", headers, b"{}", region, "dynamodb")


def _tables(body: dict[str, Any]) -> set[str]:
    """The tables that a call names."""
    names = {body["TableName"]} if "TableName" in body else set()
    names |= set(body.get("RequestItems", ()))
    for member in body.get("TransactItems", ()):
        names |= {part["TableName"] for part in member.values()}
    return {name.rpartition("/")[2] for name in names}


def _written(operation: str, body: dict[str, Any], groups: dict[str, Group]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each item that a call writes: its table, and attributes of which the keys are some."""
    if operation == "BatchWriteItem":
        parts = [
            (name, request.get("PutRequest", {}).get("Item") or request["DeleteRequest"]["Key"])
            for name, requests in body["RequestItems"].items()
            for request in requests
        ]
    elif operation == "TransactWriteItems":
        parts = [
            (part["TableName"], part.get("Item") or part["Key"])
            for member in body["TransactItems"]
            for kind, part in member.items()
            if kind != "ConditionCheck"
        ]
    else:
        parts = [(body["TableName"], body.get("Item") or body["Key"])]
    for name, item in parts:
        if name.rpartition("/")[2] in groups:
            yield name.rpartition("/")[2], item


def _key(item: dict[str, Any], group: Group) -> str:
    return json.dumps({name: item[name] for name in group.keys}, sort_keys=True)
