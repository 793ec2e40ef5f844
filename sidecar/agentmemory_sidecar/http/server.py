"""The proxy's own server: every path is Claude's, so there is one route."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

from aiohttp import web

from agentmemory_sidecar.http.client import HttpClient
from agentmemory_sidecar.http.incoming import BodyTooLarge, Connection, Request
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.proxy import handle
from agentmemory_sidecar.step.acknowledge import refuse
from agentmemory_sidecar.step.exchange import ClientGone, Inbound
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.tasks import Tasks
from agentmemory_sidecar.wire.errors import ApiError, shutting_down, too_large
from agentmemory_sidecar.wire.identify import Endpoint, route
from agentmemory_sidecar.wire.request import LIMIT

Serving = Callable[[str], AbstractContextManager[tuple[Services, str]]]
"""Given a request's path: entered, what answers it and the path without what only said so; left when it is answered. May
raise ApiError."""


class Proxy:
    """Takes requests until it is told to stop; then it refuses new ones and lets the running ones end."""

    def __init__(self, tasks: Tasks, metrics: Metrics, serving: Serving) -> None:
        """Requests run in ``tasks``. ``serving`` says who answers one."""
        self.tasks, self._metrics, self._serving = tasks, metrics, serving
        self.stopping = False
        self._open: set[Connection] = set()

    def server(self) -> web.Server:
        """To be run by aiohttp's runner, which opens and closes the sockets."""
        return _Server(self, self._open)

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)

    async def answer(self, connection: Connection, request: Request) -> None:
        """Answer one request; an answer that was begun and not ended is cut."""
        client = HttpClient(connection, request)
        try:
            await self._answer(request, client)
        except ClientGone:
            self._metrics.disconnected.inc()
        finally:
            if not client.ended:
                connection.abort()

    async def _answer(self, request: Request, client: HttpClient) -> None:
        if self.stopping:
            request.keep_alive = False
            await refuse(client, shutting_down())
            return
        path, _, query = request.target.partition("?")
        if not path.startswith("/"):
            await refuse(client, ApiError(400, "invalid_request_error", "The request's target is not a path."))
            return
        try:
            with self._serving(path) as (services, path):
                body = await _body(request, path)
                inbound = Inbound(request.method, path, query, request.lower, request.headers, body)
                await handle(services, inbound, client)
        except ApiError as error:
            await refuse(client, error)


async def _body(request: Request, path: str) -> bytes | AsyncIterator[bytes]:
    """Whole where we read it ourselves, else as it comes. Raises ApiError."""
    if not request.has_body:
        return b""
    if route(path).endpoint is Endpoint.OTHER:
        return request.chunks()
    try:
        return await request.read(LIMIT)
    except BodyTooLarge:
        raise too_large(LIMIT) from None


class _Server(web.Server):
    """What aiohttp's runner needs of a server."""

    def __init__(self, proxy: Proxy, connections: set[Connection]) -> None:
        super().__init__(_never)
        self._proxy, self._ours = proxy, connections

    def __call__(self) -> Connection:  # type: ignore[override]
        return Connection(self._proxy)

    def pre_shutdown(self) -> None:
        for connection in tuple(self._ours):
            connection.close()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Close what is still open: steps were waited for before, by whoever stops the sidecar."""
        for connection in tuple(self._ours):
            connection.abort()


async def _never(request: web.BaseRequest) -> web.StreamResponse:
    raise NotImplementedError
