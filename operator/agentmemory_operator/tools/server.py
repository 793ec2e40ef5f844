"""The tools service: HTTP on its pod's loopback, where only a port-forward of the API server arrives.

Of each request the API server is asked who its bearer is, and whether they may. Then it goes, as it came and without its
token, to the admin API that the reader has opened. Nothing is remembered from one request to the next.
"""

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from yarl import URL

from agentmemory_operator.kube import Kube, KubeError, KubeUnreachable
from agentmemory_operator.names import TOOLS_AUDIENCE
from agentmemory_operator.settings import Settings
from agentmemory_operator.tools import access, memories
from agentmemory_operator.tools.access import User
from agentmemory_operator.tools.memories import Unavailable
from agentmemory_operator.tools.routes import REGION_HEADER, Asked, NoRoute, asked

log = logging.getLogger(__name__)
audit = logging.getLogger("agentmemory.access")
"""Who asked what. Ids and outcomes, never content."""

BODY_LIMIT = 4_000_000
PASSED_ON = ("content-type", "if-match")
PASSED_BACK = ("content-type", "etag", "request-id")
READ_S = 620.0
"""How long the admin API may be silent: a planned move waits up to ten minutes."""
_TYPES: Mapping[int, str] = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
}  # fmt: skip


@dataclass(slots=True)
class _Trail:
    """What is known of a request by the time it is answered."""

    user: User | None = None
    asked: Asked | None = None


class Tools:
    """``app`` is for port-forwards, ``probes`` for the kubelet. ``run_dir`` is where the reader's sockets are."""

    def __init__(self, kube: Kube, settings: Settings, run_dir: Path, *, api_tokens: bool = True) -> None:
        self._kube, self._settings, self._run_dir = kube, settings, run_dir
        self._api_tokens = api_tokens
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "agentmemory_tools_requests", "Requests from outside, by verb and HTTP status.", ("verb", "status"),
            registry=self.registry,
        )  # fmt: skip

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._serve)
        return app

    def probes(self) -> web.Application:
        app = web.Application()
        app.add_routes([
            web.get("/livez", self._live),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
        ])  # fmt: skip
        return app

    # ----------------------------------------------------------------------------------------------------------- requests

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        trail = _Trail()
        status = 500
        try:
            response = await self._answered(request, trail)
            status = response.status
            return response
        except Unavailable as error:
            status = error.status
            return refused(status, str(error))
        except KubeUnreachable:
            status = 503
            return refused(status, "The API server does not answer: try again.")
        except KubeError as error:
            # Our own rights, or an API server that is ill: no fault of who asks.
            log.error("%s", error)
            status = 503
            return refused(status, "The API server refuses what this service asks it; its log says what.")
        except web.HTTPRequestEntityTooLarge:
            status = 413
            return refused(status, f"A body may have {BODY_LIMIT} bytes.")
        except (aiohttp.ClientError, TimeoutError) as error:
            status = 503
            return refused(status, f"The reader broke off ({type(error).__name__}): try again.")
        finally:
            self._note(trail, status)

    def _note(self, trail: _Trail, status: int) -> None:
        user, what = trail.user, trail.asked
        self._requests.labels(what.verb if what else "", str(status)).inc()
        audit.info(
            "status=%d user=%s credential=%s verb=%s memory=%s session=%s part=%s",
            status, user.shown if user else "-", user.credential if user else "-", what.verb if what else "-",
            what.named if what else "-", (what.session if what else "") or "-",
            (what.part if what else "") or "-",
        )  # fmt: skip

    async def _answered(self, request: web.Request, trail: _Trail) -> web.StreamResponse:
        """Raises Unavailable, KubeError, KubeUnreachable, and what the reader's connection raises."""
        trail.user = user = await access.who(self._kube, _bearer(request), api_tokens=self._api_tokens)
        if user is None:
            takes = "for the API server or " if self._api_tokens else ""
            said = f"Send a bearer token {takes}for the audience {TOOLS_AUDIENCE}; this one is none, or has ended."
            raise Unavailable(401, said)
        try:
            trail.asked = what = asked(request.method, request.rel_url.raw_path)
        except NoRoute:
            raise Unavailable(404, f"There is nothing to {request.method} under this path.") from None
        if not await access.may(self._kube, user, what):
            raise Unavailable(403, access.forbidden(user, what))
        if self._settings.namespaces and what.namespace not in self._settings.namespaces:
            raise Unavailable(404, f"This installation does not serve the namespace {what.namespace}.")
        memory = await memories.found(
            self._kube, what, request.headers.get(REGION_HEADER, ""), self._settings.default_region
        )
        return await self._passed_on(request, what, await memories.opened(self._run_dir, memory))

    async def _passed_on(self, request: web.Request, what: Asked, socket: Path) -> web.StreamResponse:
        query = request.rel_url.raw_query_string
        url = URL(f"http://admin{what.path}{'?' if query else ''}{query}", encoded=True)
        headers = {name: value for name in PASSED_ON if (value := request.headers.get(name)) is not None}
        connector = aiohttp.UnixConnector(str(socket), force_close=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=READ_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as http,
            http.request(
                request.method, url, headers=headers, data=await request.read() or None, allow_redirects=False
            ) as answer,
        ):
            back = {name: value for name in PASSED_BACK if (value := answer.headers.get(name)) is not None}
            response = web.StreamResponse(status=answer.status, headers=back)
            await response.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            except (aiohttp.ClientError, TimeoutError):
                # The status is out: only a connection that ends too early can say that this is not the whole.
                if request.transport is not None:
                    request.transport.close()
                return response
            await response.write_eof()
            return response

    # ------------------------------------------------------------------------------------------------------------- probes

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        if await memories.alive(self._run_dir):
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the reader does not answer\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def refused(status: int, message: str) -> web.Response:
    """An error in the shape that the admin API's have."""
    request_id = f"req_{secrets.token_hex(12)}"
    error = {"type": _TYPES.get(status, "api_error"), "message": message}
    body = json.dumps({"type": "error", "error": error, "request_id": request_id})
    return web.Response(status=status, text=body, content_type="application/json", headers={"request-id": request_id})
