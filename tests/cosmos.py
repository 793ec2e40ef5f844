"""A CosmosDB account as its REST API documents it, for databases and containers: strict about keys, names and changes.

``async with CosmosAccount() as account: account.url, account.key``. No items: nothing here uses them yet.
"""

import base64
import hashlib
import hmac
import json
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

BAD_IN_NAMES = set("/\\#?")


class CosmosAccount:
    """``databases`` is what there is: containers by name, by database. ``serverless`` takes no throughput."""

    def __init__(self, *, serverless: bool = False) -> None:
        self.key = base64.b64encode(b"k" * 64).decode()
        self.serverless = serverless
        self.databases: dict[str, dict[str, dict[str, Any]]] = {}
        self.throughput: dict[str, int] = {}
        """The autoscaled maximum by container."""
        self.changes: list[str] = []
        self.url = ""
        self._runner: web.AppRunner

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        parts = [unquote(part) for part in request.path.strip("/").split("/") if part]
        if not self._signed(request, parts):
            return _refusal(401, "Unauthorized", "The input authorization token can't serve the request.")
        body = json.loads(await request.read() or b"{}")
        if request.method != "GET":
            self.changes.append(f"{request.method} {request.path}")
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

    def _account(self) -> dict[str, Any]:
        place = [{"name": "East US", "databaseAccountEndpoint": self.url}]
        return {
            "id": "account",
            "writableLocations": place,
            "readableLocations": place,
            "enableMultipleWriteLocations": False,
            "userConsistencyPolicy": {"defaultConsistencyLevel": "Session"},
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
        self.databases[database][name] = _with_defaults(body)
        return web.json_response(self.databases[database][name], status=201)

    def _replace_container(self, database: str, name: str, body: dict[str, Any]) -> web.Response:
        live = self.databases.get(database, {}).get(name)
        if live is None:
            return _missing()
        if body.get("partitionKey", {}).get("paths") != live["partitionKey"]["paths"]:
            return _refusal(400, "BadRequest", "Document collection partition key cannot be changed.")
        self.databases[database][name] = _with_defaults(body)
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


def _missing() -> web.Response:
    return _refusal(404, "NotFound", "Resource Not Found.")


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)
