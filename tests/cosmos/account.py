"""The account: its regions with an address each, databases and containers, and what the REST API says to requests."""

import asyncio
import base64
import email.utils
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

from tests.cosmos.documents import Documents
from tests.cosmos.items import Answered, Items

BAD_IN_NAMES = set("/\\#?")
CONSISTENCIES = ("Strong", "BoundedStaleness", "Session", "ConsistentPrefix", "Eventual")
CLOCK_SKEW_S = 15 * 60
REQUEST_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Place:
    """A region of the account."""

    name: str
    """Azure's name of it, such as ``East US``."""
    url: str = ""
    """Where it is reached, as the account document says; set it to a proxy's address to put that before it."""
    port: int = 0
    cut: bool = False
    """Whether nothing of the other regions arrives here."""
    site: web.TCPSite | None = None


@dataclass(slots=True)
class Faults:
    """What goes wrong with requests for items."""

    answers: list[tuple[int, int]] = field(default_factory=list)
    """Status and substatus of the next requests, which have no effect."""
    after_ms: int = 10
    """What a 429 asks to be waited."""
    behind: int = 0
    """How many changes the replicas that serve plain reads are behind their primary."""


class CosmosAccount:
    """``databases`` is what there is: containers by name, by database. ``serverless`` takes no throughput.

    The first of ``regions`` takes the writes, or each of them with ``every_region_writes``.
    """

    def __init__(
        self,
        *regions: str,
        serverless: bool = False,
        every_region_writes: bool = False,
        consistency: str = "Session",
        lag_s: float = 0.0,
        port: int = 0,
    ) -> None:
        assert consistency in CONSISTENCIES
        assert not (every_region_writes and consistency == "Strong"), "Azure offers no such account"
        self.key = base64.b64encode(b"k" * 64).decode()
        self.serverless = serverless
        self.every_region_writes = every_region_writes
        self.consistency = consistency
        self.lag_s = lag_s
        self.places = {name: Place(name) for name in regions or ("East US",)}
        self.writable = next(iter(self.places))
        self.databases: dict[str, dict[str, dict[str, Any]]] = {}
        self.items: dict[tuple[str, str], Items] = {}
        self.throughput: dict[str, int] = {}
        """The autoscaled maximum by container."""
        self.changes: list[str] = []
        self.requests: list[tuple[str, str, str]] = []
        """Region, method and path of each request."""
        self.faults = Faults()
        self._documents = Documents(self)
        self._first_port = port
        self._runner: web.AppRunner

    @property
    def url(self) -> str:
        """Of the first region."""
        return next(iter(self.places.values())).url

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=REQUEST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        for number, place in enumerate(self.places.values()):
            place.port = self._first_port + number if self._first_port else 0
            await self.start(place.name)
            place.url = f"http://127.0.0.1:{place.port}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def start(self, region: str) -> None:
        """Let a region be reached."""
        place = self.places[region]
        place.site = web.TCPSite(self._runner, "127.0.0.1", place.port)
        await place.site.start()
        server: Any = place.site._server  # a runner's list of addresses does not say which site's they are
        place.port = server.sockets[0].getsockname()[1]

    async def stop(self, region: str) -> None:
        """Let a region be reached no more. Connections that are open stay."""
        site = self.places[region].site
        assert site is not None
        await site.stop()

    def fail_over(self, region: str) -> None:
        """Make another region the one that takes writes. What has not arrived there yet does not any more."""
        before, self.writable = self.writable, region
        for items in self.items.values():
            replica = items.replicas[region]
            replica.coming = [(at, change) for at, change in replica.coming if change.stamp[1] != before]

    def create(self, database: str, container: str, definition: dict[str, Any]) -> None:
        """A container, as a request would make it."""
        self.databases.setdefault(database, {})[container] = _with_defaults(
            {"id": container, "_rid": f"{database}-{container}=", "_self": f"colls/{container}/", **definition}
        )
        self._items(database, container)

    async def settle(self) -> None:
        """Wait until every write is everywhere; no region may be cut."""
        while any(replica.coming for items in self.items.values() for replica in items.replicas.values()):
            for items in self.items.values():
                for name in self.places:
                    items.deliver(name, time.monotonic(), self.places[name].cut)
            await asyncio.sleep(0.005)

    def takes_writes(self, region: str) -> bool:
        return self.every_region_writes or region == self.writable

    def _items(self, database: str, container: str) -> Items | None:
        definition = self.databases.get(database, {}).get(container)
        if definition is None:
            return None
        items = self.items.setdefault((database, container), Items(definition, list(self.places)))
        items.definition = definition
        return items

    async def _serve(self, request: web.Request) -> web.Response:
        region = self._region(request)
        parts = [unquote(part) for part in request.path.strip("/").split("/") if part]
        self.requests.append((region.name, request.method, request.path.rstrip("/")))
        if not self._signed(request, parts):
            return _refusal(401, "Unauthorized", "The input authorization token can't serve the request.")
        if not self._timely(request):
            return _refusal(403, "Forbidden", "The date of the request is too far from the server's.")
        level = request.headers.get("x-ms-consistency-level", self.consistency)
        if level not in CONSISTENCIES or CONSISTENCIES.index(level) < CONSISTENCIES.index(self.consistency):
            return _refusal(400, "BadRequest", f"ConsistencyLevel {level} is stronger than the account's.")
        text = await request.read() or b"{}"
        if len(parts) > 3 and parts[2] == "colls" and len(parts) > 4:
            return await self._in_container(request, region, parts, text)
        try:
            return self._managed(request, region, parts, json.loads(text))
        except ValueError:
            return _refusal(400, "BadRequest", "The request body is no JSON.")

    async def _in_container(self, request: web.Request, region: Place, parts: list[str], text: bytes) -> web.Response:
        items = self._items(parts[1], parts[3])
        if items is None:
            return _missing(1003)
        for name in self.places:
            items.deliver(name, time.monotonic(), self.places[name].cut)
        if parts[4] == "docs" and self.faults.answers:
            status, substatus = self.faults.answers.pop(0)
            answer = _refusal(status, "Told", "told to", substatus)
            if status == 429:
                answer.headers["x-ms-retry-after-ms"] = str(self.faults.after_ms)
            return answer
        try:
            return self._documents.answer(request, region.name, items, parts[4:], text)
        except Answered as answered:
            answer = _refusal(answered.status, "Refused", answered.message, answered.substatus)
            answer.headers["x-ms-session-token"] = self._documents.token(region.name, items)
            return answer

    def _managed(self, request: web.Request, region: Place, parts: list[str], body: dict[str, Any]) -> web.Response:
        if request.method != "GET":
            self.changes.append(f"{request.method} {request.path}")
            if not self.takes_writes(region.name):
                return _refusal(403, "Forbidden", "The requested operation cannot be performed at this region", 3)
        match (request.method, parts):
            case ("GET", []):
                return web.json_response(self._account())
            case ("POST", ["dbs"]):
                return self._create_database(body)
            case ("GET", ["dbs", name]):
                return web.json_response({"id": name}) if name in self.databases else _missing()
            case ("POST", ["dbs", name, "colls"]):
                return self._create_container(request, name, body)
            case ("GET", ["dbs", name, "colls", container]):
                found = self.databases.get(name, {}).get(container)
                return web.json_response(found) if found else _missing()
            case ("PUT", ["dbs", name, "colls", container]):
                return self._replace_container(name, container, body)
        return _refusal(405, "MethodNotAllowed", f"{request.method} {request.path} is not played")

    def _region(self, request: web.Request) -> Place:
        transport = request.transport
        assert transport is not None
        port = transport.get_extra_info("sockname")[1]
        return next(place for place in self.places.values() if place.port == port)

    def _signed(self, request: web.Request, parts: list[str]) -> bool:
        """The documented signature: HMAC-SHA256 over verb, kind, link and date, with the account's key."""
        of_feed = len(parts) % 2
        kind = parts[-1] if of_feed else parts[-2] if parts else ""
        link = "/".join(parts[:-1] if of_feed else parts)
        date = request.headers.get("x-ms-date", "").lower()
        text = f"{request.method.lower()}\n{kind}\n{link}\n{date}\n\n"
        digest = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        wanted = f"type=master&ver=1.0&sig={base64.b64encode(digest).decode()}"
        return hmac.compare_digest(unquote(request.headers.get("authorization", "")), wanted)

    def _timely(self, request: web.Request) -> bool:
        try:
            date = email.utils.parsedate_to_datetime(request.headers.get("x-ms-date", ""))
        except ValueError:
            return False
        return abs(date.timestamp() - time.time()) < CLOCK_SKEW_S and "x-ms-version" in request.headers

    def _account(self) -> dict[str, Any]:
        # The one that takes writes is the first of those that are read, too.
        names = sorted(self.places, key=lambda name: name != self.writable)
        places = [{"name": name, "databaseAccountEndpoint": self.places[name].url} for name in names]
        return {
            "id": "account",
            "writableLocations": places if self.every_region_writes else places[:1],
            "readableLocations": places,
            "enableMultipleWriteLocations": self.every_region_writes,
            "userConsistencyPolicy": {"defaultConsistencyLevel": self.consistency},
        }

    def _create_database(self, body: dict[str, Any]) -> web.Response:
        name = body.get("id", "")
        if not name or BAD_IN_NAMES & set(name):
            return _refusal(400, "BadRequest", "The id is not valid")
        if name in self.databases:
            return _refusal(409, "Conflict", "Resource with specified id or name already exists.")
        self.databases[name] = {}
        return web.json_response({"id": name}, status=201)

    def _create_container(self, request: web.Request, database: str, body: dict[str, Any]) -> web.Response:
        if database not in self.databases:
            return _missing()
        name, paths = body.get("id", ""), body.get("partitionKey", {}).get("paths", [])
        if not name or BAD_IN_NAMES & set(name) or len(paths) != 1 or not paths[0].startswith("/"):
            return _refusal(400, "BadRequest", "A container needs an id and a partition key")
        if name in self.databases[database]:
            return _refusal(409, "Conflict", "Resource with specified id or name already exists.")
        scaled = request.headers.get("x-ms-cosmos-offer-autopilot-settings")
        if scaled or "x-ms-offer-throughput" in request.headers:
            most = int(json.loads(scaled)["maxThroughput"]) if scaled else 0
            if self.serverless or most % 1000 or most < 1000:
                return _refusal(400, "BadRequest", "The throughput is not one that this account takes")
            self.throughput[name] = most
        self.create(database, name, body)
        return web.json_response(self.databases[database][name], status=201)

    def _replace_container(self, database: str, name: str, body: dict[str, Any]) -> web.Response:
        live = self.databases.get(database, {}).get(name)
        if live is None:
            return _missing()
        if body.get("partitionKey", {}).get("paths") != live["partitionKey"]["paths"]:
            return _refusal(400, "BadRequest", "Document collection partition key cannot be changed.")
        own = {name: live[name] for name in ("_rid", "_self") if name in live}
        self.databases[database][name] = _with_defaults(body) | own
        return web.json_response(self.databases[database][name])


def _with_defaults(body: dict[str, Any]) -> dict[str, Any]:
    everything = {
        "indexingMode": "consistent",
        "automatic": True,
        "includedPaths": [{"path": "/*"}],
        "excludedPaths": [],
    }
    default = {"indexingPolicy": everything, "conflictResolutionPolicy": {"mode": "LastWriterWins"}}
    return default | {name: value for name, value in body.items() if value is not None}


def _missing(substatus: int = 0) -> web.Response:
    return _refusal(404, "NotFound", "Resource Not Found.", substatus)


def _refusal(status: int, code: str, message: str, substatus: int = 0) -> web.Response:
    answer = web.json_response({"code": code, "message": message}, status=status)
    if substatus:
        answer.headers["x-ms-substatus"] = str(substatus)
    return answer
