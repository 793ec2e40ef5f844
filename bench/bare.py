"""The yardstick: the simplest honest reverse proxy in aiohttp. It streams, and does nothing else.

``python -m bench.bare PORT UPSTREAM_URL`` listens on 127.0.0.1. Plain asyncio loop, one connection pool, bytes written
as they come, nothing parsed, decompressed or logged.
"""

import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_SESSION = web.AppKey("session", aiohttp.ClientSession)
_UPSTREAM = web.AppKey("upstream", str)
_LARGEST_BODY = 32 * 1024 * 1024


def end_to_end(headers: CIMultiDictProxy[str], *also_not: str) -> CIMultiDict[str]:
    """The headers that are not about one connection alone."""
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in _HOP_BY_HOP and k.lower() not in also_not)


async def forward(request: web.Request) -> web.StreamResponse:
    """Send the request on and the reply back, piece by piece."""
    body = await request.read()
    url = request.app[_UPSTREAM] + request.path_qs
    headers = end_to_end(request.headers, "host", "content-length")
    async with request.app[_SESSION].request(request.method, url, data=body, headers=headers) as reply:
        response = web.StreamResponse(status=reply.status, headers=end_to_end(reply.headers))
        await response.prepare(request)
        async for piece in reply.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


def application(upstream: str) -> web.Application:
    """The proxy in front of ``upstream`` (a URL without path)."""

    async def session(app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as client:
            app[_SESSION] = client
            yield

    app = web.Application(client_max_size=_LARGEST_BODY)
    app[_UPSTREAM] = upstream.rstrip("/")
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
