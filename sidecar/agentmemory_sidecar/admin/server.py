"""The admin API: JSON over HTTP, errors in the API's own shape.

GET    /healthz  /readyz  /metrics                      no token
GET    /v1/sessions?subject=&after=&limit=
GET    /v1/sessions/{id}
GET    /v1/sessions/{id}/state                          ETag: the version
PATCH  /v1/sessions/{id}/state                          If-Match; merge-patch+json or json-patch+json
GET    /v1/sessions/{id}/history?agent=                 JSON Lines
GET    /v1/sessions/{id}/explain/{turn}?agent=
GET    /v1/sessions/{id}/export                         JSON Lines
GET    /v1/sessions/{id}/report?since=                  seconds since the epoch
POST   /v1/sessions/{id}/move
GET    /v1/{sessions|projects|users}/{id}/conflicts     POST settles
GET    /v1/{projects|users}/{id}/state                  likewise PATCH
"""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from aiohttp import web
from prometheus_client import generate_latest

from agentmemory_sidecar.admin.moves import move
from agentmemory_sidecar.admin.sessions import NoSuchConflict, NoSuchSession, Sessions, VersionMoved
from agentmemory_sidecar.archive.explain import NoSuchTurn
from agentmemory_sidecar.archive.keys import KeyUnavailable
from agentmemory_sidecar.archive.reader import Record
from agentmemory_sidecar.memory.state import PatchError
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.opened import Stores
from agentmemory_sidecar.stores.protocols import ROOT, Conversation, Sharing, StoreUnavailable
from agentmemory_sidecar.wire.errors import ApiError, new_request_id


@dataclass(frozen=True, slots=True)
class _Used:
    services: Services
    stores: Stores
    sessions: Sessions


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"


class Admin:
    """The admin API of one sidecar. ``token`` must come as a bearer token with everything under /v1; empty where only the
    right people can connect. It answers 503 until it is told what to ``use``."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.unconfigured = "it has no configuration yet"
        """Why there is nothing to use."""
        self._used: _Used | None = None

    def use(self, services: Services, stores: Stores) -> None:
        """Answer from these, from the next request on."""
        self._used = _Used(services, stores, Sessions(services, stores.records))

    @property
    def _now(self) -> "_Used":
        if self._used is None:
            said = f"The memory sidecar remembers nothing: {self.unconfigured}."
            raise ApiError(503, "api_error", said, "memory_not_configured")
        return self._used

    @property
    def _sessions(self) -> Sessions:
        return self._now.sessions

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded], client_max_size=4_000_000)
        app.add_routes([
            web.get("/healthz", self._healthy),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
            web.get("/v1/sessions", self._list),
            web.get("/v1/sessions/{id}", self._show),
            web.get("/v1/{of:sessions|projects|users}/{id}/state", self._state),
            web.patch("/v1/{of:sessions|projects|users}/{id}/state", self._patch),
            web.get("/v1/{of:sessions|projects|users}/{id}/conflicts", self._conflicts),
            web.post("/v1/{of:sessions|projects|users}/{id}/conflicts", self._settle),
            web.post("/v1/{of:sessions|projects|users}/{id}/migration", self._migrate),
            web.post("/v1/sessions/{id}/move", self._move),
            web.get("/v1/sessions/{id}/history", self._history),
            web.get("/v1/sessions/{id}/explain/{turn}", self._explain),
            web.get("/v1/sessions/{id}/export", self._export),
            web.get("/v1/sessions/{id}/report", self._report),
        ])  # fmt: skip
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            right = not self._token or hmac.compare_digest(given.encode(), self._token.encode())
            if request.path.startswith("/v1/") and not right:
                raise ApiError(401, "authentication_error", "The admin token is missing or wrong.")
            return await handler(request)
        except ApiError as error:
            return failed(error)
        except NoSuchSession:
            return failed(ApiError(404, "not_found_error", "There is no such session."))
        except NoSuchTurn as error:
            return failed(ApiError(404, "not_found_error", f"Not explained: {error}.", "no_such_turn"))
        except NoSuchConflict as error:
            said = f"There is no open conflict {error}: list them again."
            return failed(ApiError(404, "not_found_error", said, "no_such_conflict"))
        except VersionMoved as error:
            return failed(ApiError(412, "conflict_error", f"Not changed: {error}.", "version_moved"))
        except PatchError as error:
            return failed(ApiError(400, "invalid_request_error", f"Not changed: {error}.", "invalid_patch"))
        except (StoreUnavailable, KeyUnavailable) as error:
            return failed(ApiError(503, "api_error", f"A store is away: {error}.", "memory_unavailable"))
        except web.HTTPException as error:
            return failed(ApiError(error.status, "invalid_request_error", f"{error.reason}."))

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        """Which stores answer. Ready also while some do not: a turn degrades, it does not stop."""
        stores = self._now.stores
        pings = {"hot": stores.hot.ping, "state": stores.state.ping, "archive": stores.records.ping}
        return web.json_response(
            {"status": "ok", "stores": {name: await answers(ping) for name, ping in pings.items()}}
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._now.services.metrics.registry), content_type="text/plain")

    async def _list(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "100")
        if not limit.isdigit() or not 1 <= int(limit) <= 1000:
            raise ApiError(400, "invalid_request_error", "limit must be a number from 1 to 1000.")
        try:
            page = await self._sessions.page(
                request.query.get("subject", ""), request.query.get("after", ""), int(limit)
            )
        except ValueError as error:
            said = "after must be the `next` of the page before."
            raise ApiError(400, "invalid_request_error", said) from error
        return reply(page)

    async def _show(self, request: web.Request) -> web.Response:
        return reply(await self._sessions.show(request.match_info["id"], pii=request.query.get("pii") == "1"))

    async def _state(self, request: web.Request) -> web.Response:
        found = await self._sessions.state(named(request))
        return reply(found.state, ETag=f'"{found.version}"')

    async def _patch(self, request: web.Request) -> web.Response:
        kind = request.content_type
        if kind not in (MERGE_PATCH, JSON_PATCH, "application/json"):
            raise ApiError(415, "invalid_request_error", f"Send {MERGE_PATCH} or {JSON_PATCH}, not {kind}.")
        expect = expected(request.headers.get("if-match", ""))
        found = await self._sessions.patch(
            named(request), await request.read(), json_patch=kind == JSON_PATCH, expect=expect
        )
        return reply(found.state, ETag=f'"{found.version}"')

    async def _conflicts(self, request: web.Request) -> web.Response:
        return reply({"conflicts": await self._sessions.conflicts(named(request))})

    async def _settle(self, request: web.Request) -> web.Response:
        try:
            names = msgspec.json.decode(await request.read(), type=Settling).settle
        except msgspec.DecodeError as error:
            raise ApiError(400, "invalid_request_error", f'Send {{"settle": [ID, …]}}: {error}.') from error
        return reply({"conflicts": await self._sessions.settle(named(request), set(names))})

    async def _migrate(self, request: web.Request) -> web.Response:
        return reply(await self._sessions.migrate(named(request)))

    async def _move(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=Moving)
        except msgspec.DecodeError as error:
            raise ApiError(400, "invalid_request_error", f'Send {{"to": REGION, "timeout_s": N}}: {error}.') from error
        found = await move(self._now.services, request.match_info["id"], wanted.to, wanted.timeout_s)
        return reply(msgspec.to_builtins(found))

    async def _history(self, request: web.Request) -> web.StreamResponse:
        records = self._sessions.history(request.match_info["id"], request.query.get("agent", ROOT))
        return await lines(request, (line(record) async for record in records))

    async def _explain(self, request: web.Request) -> web.Response:
        path = request.match_info
        return reply(await self._sessions.explain(path["id"], request.query.get("agent", ROOT), path["turn"]))

    async def _export(self, request: web.Request) -> web.StreamResponse:
        found = self._sessions.export(request.match_info["id"])
        return await lines(request, (line(record) async for _, record in found))

    async def _report(self, request: web.Request) -> web.Response:
        try:
            since = float(request.query.get("since", "0"))
        except ValueError as error:
            raise ApiError(400, "invalid_request_error", "since must be a number: seconds since the epoch.") from error
        return reply((await self._sessions.report(request.match_info["id"], since)).shown())


class Settling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request to settle conflicts says."""

    settle: list[str]


class Moving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a session is to go on."""

    to: str
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 60.0


def named(request: web.Request) -> str:
    """The session of a path, or where a project's or user's state lies."""
    name: str = request.match_info["id"]
    kinds: dict[str, Sharing] = {"projects": "project", "users": "user"}
    kind = kinds.get(request.match_info["of"])
    return name if kind is None else Conversation.shared("", kind, name).session


def expected(header: str) -> int | None:
    """The version of an If-Match header; None for ``*``. Raises ApiError where it is missing or no version."""
    value = header.strip().removeprefix("W/").strip('"')
    if value == "*":
        return None
    if not value:
        message = 'Send If-Match with the ETag the state was read with ("0" for a new session, * for any).'
        raise ApiError(428, "invalid_request_error", message)
    if not value.isdigit():
        raise ApiError(400, "invalid_request_error", f"If-Match must be a version, not {value[:40]!r}.")
    return int(value)


def line(record: Record) -> dict[str, Any]:
    payload = None if record.payload is None else msgspec.to_builtins(record.payload)
    return {**msgspec.to_builtins(record.header), "payload": payload}


async def lines(request: web.Request, rows: AsyncIterator[dict[str, Any]]) -> web.StreamResponse:
    """JSON Lines. The first row is read before the head goes out, so that errors still have a status."""
    iterator = aiter(rows)
    first = await anext(iterator, None)
    response = web.StreamResponse(headers={"content-type": "application/jsonl"})
    await response.prepare(request)
    if first is not None:
        await response.write(msgspec.json.encode(first) + b"\n")
    async for row in iterator:
        await response.write(msgspec.json.encode(row) + b"\n")
    await response.write_eof()
    return response


async def answers(ping: Callable[[], Awaitable[None]]) -> bool:
    try:
        await ping()
    except StoreUnavailable:
        return False
    return True


def reply(value: Any, **headers: str) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", headers=headers)


def failed(error: ApiError) -> web.Response:
    request_id = new_request_id()
    return web.Response(status=error.status, headers=error.headers(request_id), body=error.body(request_id))
