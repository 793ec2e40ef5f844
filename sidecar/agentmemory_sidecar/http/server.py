"""The proxy's own server: every path is Claude's, so there is one route."""

from collections.abc import AsyncIterator

from aiohttp import web

from agentmemory_sidecar.http.client import HttpClient
from agentmemory_sidecar.proxy import handle
from agentmemory_sidecar.step.acknowledge import refuse
from agentmemory_sidecar.step.exchange import Inbound
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.wire.errors import shutting_down, too_large
from agentmemory_sidecar.wire.identify import Endpoint, route
from agentmemory_sidecar.wire.request import LIMIT


class Proxy:
    """Takes requests until it is told to stop; then it refuses new ones and lets the running ones end."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.stopping = False

    def app(self) -> web.Application:
        # One byte over the limit is read, so that ours is the error that tells.
        app = web.Application(client_max_size=LIMIT + 1)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        client = HttpClient(request)
        if self.stopping:
            await refuse(client, shutting_down())
            return client.finished()
        try:
            inbound = await read(request)
        except web.HTTPRequestEntityTooLarge:
            await refuse(client, too_large(LIMIT))
            return client.finished()
        await handle(self._services, inbound, client)
        return client.finished()


async def read(request: web.Request) -> Inbound:
    """The request as the turn sees it. Bodies of requests that are not messages are streamed on, whatever their size."""
    path, _, query = request.raw_path.partition("?")
    body: bytes | AsyncIterator[bytes] = b""
    if request.body_exists:
        reads = route(path).endpoint is not Endpoint.OTHER
        body = await request.read() if reads else request.content.iter_any()
    return Inbound(request.method, path, query, request.headers, list(request.headers.items()), body)
