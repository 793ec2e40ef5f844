"""Requests for a container's items, as the REST API documents them."""

import json
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.cosmos.items import Answered, Item, Items
from tests.cosmos.query import parsed

if TYPE_CHECKING:
    from tests.cosmos.account import CosmosAccount

BATCH_OPERATIONS = 100
BATCH_BYTES = 2 * 1024 * 1024
PAGE_ROWS, PAGE_BYTES = 1000, 4 * 1024 * 1024
QUORUM = ("Strong", "BoundedStaleness")
"""Where plain reads ask more than one replica, and so the newest."""


class Documents:
    def __init__(self, account: "CosmosAccount") -> None:
        self._account = account

    def token(self, region: str, items: Items) -> str:
        return f"0:1#{items.replicas[region].lsn}"

    def answer(self, request: web.Request, region: str, items: Items, parts: list[str], text: bytes) -> web.Response:
        """Raises Answered for what is no success."""
        headers = request.headers
        match (request.method, parts):
            case ("GET", ["pkranges"]):
                if headers.get("if-none-match"):
                    return web.Response(status=304, headers={"etag": '"ranges"'})
                ranges = [{"id": "0", "_rid": "range", "minInclusive": "", "maxExclusive": "FF", "parents": []}]
                body = {"_rid": items.definition.get("_rid", ""), "PartitionKeyRanges": ranges, "_count": 1}
                return web.json_response(body, headers={"etag": '"ranges"'})
            case ("POST", ["docs"]) if headers.get("x-ms-documentdb-isquery", "").lower() == "true":
                return self._query(request, region, items, text)
            case ("POST", ["docs"]) if headers.get("x-ms-cosmos-is-batch-request", "").lower() == "true":
                return self._batch(request, region, items, text)
            case ("POST", ["docs"]):
                self._writable(request, region)
                upsert = headers.get("x-ms-documentdb-is-upsert", "").lower() == "true"
                mark = items.mark(region)
                made = items.create(region, _partition(request), _json(text), upsert=upsert)
                self._replicate(items, region, mark)
                return self._done(region, items, made, 201)
            case ("GET", ["docs", name]):
                found = items.seen(region, (_partition(request), name), self._lsn(request, region, items))
                if found is None:
                    raise Answered(404, "Entity with the specified id does not exist in the system.")
                if headers.get("if-none-match") == found["_etag"]:
                    return web.Response(status=304, headers=self._headers(region, items, found))
                return self._done(region, items, found, 200)
            case ("PUT", ["docs", name]):
                self._writable(request, region)
                mark = items.mark(region)
                made = items.replace(region, _partition(request), name, _json(text), headers.get("if-match"))
                self._replicate(items, region, mark)
                return self._done(region, items, made, 200)
            case ("DELETE", ["docs", name]):
                self._writable(request, region)
                mark = items.mark(region)
                items.delete(region, _partition(request), name, headers.get("if-match"))
                self._replicate(items, region, mark)
                return web.Response(status=204, headers=self._headers(region, items, {}))
        raise Answered(405, "not played")

    def _batch(self, request: web.Request, region: str, items: Items, text: bytes) -> web.Response:
        """Carried out by the primary, whole or not at all."""
        self._writable(request, region)
        partition, operations = _partition(request), json.loads(text)
        if request.headers.get("x-ms-cosmos-batch-atomic", "").lower() != "true":
            raise Answered(400, "Only atomic batches are played")
        if not operations or len(operations) > BATCH_OPERATIONS:
            raise Answered(400, "Batch request has more operations than what is supported.")
        if len(text) > BATCH_BYTES:
            raise Answered(413, "Request size is too large.")
        mark = items.mark(region)
        results: list[dict[str, Any]] = []
        failed = False
        for number, operation in enumerate(operations):
            try:
                results.append(self._operation(items, region, partition, operation))
            except Answered as answered:
                items.rollback(region, mark)
                results = [{"statusCode": 424, "requestCharge": 0} for _ in operations]
                results[number] = {
                    "statusCode": answered.status,
                    "subStatusCode": answered.substatus,
                    "requestCharge": 1,
                }
                failed = True
                break
        self._replicate(items, region, mark)
        return web.json_response(results, status=207 if failed else 200, headers=self._headers(region, items, {}))

    def _operation(self, items: Items, region: str, partition: str, operation: dict[str, Any]) -> dict[str, Any]:
        kind, name, body = operation.get("operationType"), operation.get("id", ""), operation.get("resourceBody")
        lsn, if_match = items.replicas[region].lsn, operation.get("ifMatch")
        found: Item | None = None
        match kind:
            case "Create" | "Upsert":
                found, status = items.create(region, partition, body or {}, upsert=kind == "Upsert"), 201
            case "Replace":
                found, status = items.replace(region, partition, name, body or {}, if_match), 200
            case "Delete":
                items.delete(region, partition, name, if_match)
                return {"statusCode": 204, "requestCharge": 5}
            case "Read":
                found, status = items.seen(region, (partition, name), lsn), 200
                if found is None:
                    raise Answered(404)
            case _:
                raise Answered(400, "not played")
        return {"statusCode": status, "requestCharge": 5, "eTag": found["_etag"], "resourceBody": found}

    def _query(self, request: web.Request, region: str, items: Items, text: bytes) -> web.Response:
        headers = request.headers
        if headers.get("content-type", "").partition(";")[0] != "application/query+json":
            raise Answered(400, "A query's content type is application/query+json")
        if headers.get("x-ms-cosmos-is-query-plan-request", "").lower() == "true":
            raise Answered(400, "Query plans are not played")
        partition = _partition(request) if "x-ms-documentdb-partitionkey" in headers else None
        if partition is None and headers.get("x-ms-documentdb-query-enablecrosspartition", "").lower() != "true":
            raise Answered(400, "Cross partition query is required but disabled.")
        scan = headers.get("x-ms-documentdb-query-enable-scan", "").lower() == "true"
        query = parsed(_json(text), items.definition, scan=scan)
        if partition is None and (query.order or query.top is not None):
            raise Answered(400, "This query needs a plan, which is not played")
        # Across partitions there is no one replica that could be behind: those of all of them are asked, here the primaries.
        lsn = items.replicas[region].lsn if partition is None else self._lsn(request, region, items)
        alive = (items.seen(region, key, lsn) for key in items.replicas[region].keys(partition))
        rows = query.rows(item for item in alive if item is not None)
        start = int(headers.get("x-ms-continuation") or 0)
        most = int(headers.get("x-ms-max-item-count") or -1)
        page: list[Item] = []
        size = 0
        for row in rows[start:]:
            size += len(json.dumps(row))
            if page and (len(page) == (most if most > 0 else PAGE_ROWS) or size > PAGE_BYTES):
                break
            page.append(row)
        told = self._headers(region, items, {})
        if start + len(page) < len(rows):
            told["x-ms-continuation"] = str(start + len(page))
        body = {"_rid": items.definition.get("_rid", ""), "Documents": page, "_count": len(page)}
        return web.json_response(body, headers=told)

    def _lsn(self, request: web.Request, region: str, items: Items) -> int:
        """How far the replica has got that answers a plain read."""
        newest = items.replicas[region].lsn
        asked = request.headers.get("x-ms-session-token", "")
        wanted = max((int(each.rpartition("#")[2].rpartition("=")[2]) for each in asked.split(",") if each), default=0)
        if wanted > newest:
            raise Answered(404, "The read session is not available for the input session token.", 1002)
        if self._account.consistency in QUORUM:
            return newest
        return max(wanted, newest - self._account.faults.behind, 0)

    def _writable(self, request: web.Request, region: str) -> None:
        tentative = request.headers.get("x-ms-cosmos-allow-tentative-writes", "").lower() == "true"
        if not self._account.takes_writes(region) or (region != self._account.writable and not tentative):
            raise Answered(403, "The requested operation cannot be performed at this region", 3)

    def _replicate(self, items: Items, region: str, mark: int) -> None:
        items.send(region, mark, time.monotonic() + self._account.lag_s)
        for name, place in self._account.places.items():
            items.deliver(name, time.monotonic(), place.cut)

    def _headers(self, region: str, items: Items, item: Item) -> dict[str, str]:
        told = {"x-ms-request-charge": "1.0", "x-ms-session-token": self.token(region, items)}
        return told | ({"etag": item["_etag"]} if item else {})

    def _done(self, region: str, items: Items, item: Item, status: int) -> web.Response:
        return web.json_response(item, status=status, headers=self._headers(region, items, item))


def _partition(request: web.Request) -> str:
    try:
        (value,) = json.loads(request.headers.get("x-ms-documentdb-partitionkey", ""))
    except (ValueError, TypeError):
        raise Answered(400, "The partition key header is no JSON array of one value.") from None
    if not isinstance(value, str):
        raise Answered(400, "PartitionKey supplied does not match the definition.", 1001)
    return value


def _json(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        raise Answered(400, "The request body is no JSON.") from None
    if not isinstance(body, dict):
        raise Answered(400, "The request body is no JSON object.")
    return body
