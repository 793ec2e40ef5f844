"""The proxy's own server: every path is Claude's, so there is one route."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

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

    def server(self) -> web.Server:
        """aiohttp's low-level server: there is nothing to route, and the router would cost as much as the rest of it."""
        return web.Server(
            self._handle, request_factory=_request, handler_cancellation=True, auto_decompress=False, access_log=None
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
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


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    # One byte over the limit is read, so that ours is the error that tells.
    return web.BaseRequest(
        message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=LIMIT + 1
    )


async def read(request: web.BaseRequest) -> Inbound:
    """The request as the turn sees it. Bodies of requests that are not messages are streamed on, whatever their size."""
    path, _, query = request.raw_path.partition("?")
    body: bytes | AsyncIterator[bytes] = b""
    if request.body_exists:
        reads = route(path).endpoint is not Endpoint.OTHER
        body = await request.read() if reads else request.content.iter_any()
    return Inbound(request.method, path, query, request.headers, list(request.headers.items()), body)
