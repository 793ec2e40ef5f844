"""The proxy's own server: every path is Claude's, so there is one route."""

from collections.abc import AsyncIterator

from aiohttp import web

from agentmemory_sidecar.http.client import HttpClient
from agentmemory_sidecar.http.incoming import BodyTooLarge, Connection, Request
from agentmemory_sidecar.proxy import handle
from agentmemory_sidecar.step.acknowledge import refuse
from agentmemory_sidecar.step.exchange import ClientGone, Inbound
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.wire.errors import ApiError, shutting_down, too_large
from agentmemory_sidecar.wire.identify import Endpoint, route
from agentmemory_sidecar.wire.request import LIMIT


class Proxy:
    """Takes requests until it is told to stop; then it refuses new ones and lets the running ones end."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.stopping = False
        self.tasks = services.tasks
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
            self._services.metrics.disconnected.inc()
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
        body: bytes | AsyncIterator[bytes] = b""
        if request.has_body:
            if route(path).endpoint is Endpoint.OTHER:
                body = request.chunks()
            else:
                try:
                    body = await request.read(LIMIT)
                except BodyTooLarge:
                    await refuse(client, too_large(LIMIT))
                    return
        await handle(self._services, Inbound(request.method, path, query, request.lower, request.headers, body), client)


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
