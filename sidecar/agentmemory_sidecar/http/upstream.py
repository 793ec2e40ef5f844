"""Claude over HTTP: requests go out as they are, answers come back chunk by chunk."""

import asyncio
import io
import zlib
from collections.abc import AsyncIterator
from functools import lru_cache

import aiohttp
from aiohttp.client import _RequestContextManager
from multidict import CIMultiDict
from yarl import URL

from agentmemory_sidecar.resource.config import UpstreamConfig
from agentmemory_sidecar.step.exchange import Headers, UpstreamFailed
from agentmemory_sidecar.tls import context

_BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, OSError, zlib.error)
LARGE = 1 << 19
"""Bytes of a request's body from which on it is written in pieces."""


class HttpResponse:
    """An answer that is arriving. With ``plain`` an encoded body is decoded, for we must read it."""

    def __init__(self, response: aiohttp.ClientResponse, idle_s: float, *, plain: bool) -> None:
        self._response = response
        self._idle_s = idle_s
        self.status = response.status
        encoding = response.headers.get("content-encoding", "identity").lower() if plain else "identity"
        if encoding not in ("identity", "gzip", "deflate"):
            raise UpstreamFailed(f"its answer is encoded as {encoding[:20]}, though it was asked for identity")
        self._decoder = None if encoding == "identity" else zlib.decompressobj(wbits=47)
        self.headers: Headers = [
            (name, value)
            for name, value in response.headers.items()
            if self._decoder is None or name.lower() != "content-encoding"
        ]

    @property
    def content_type(self) -> str:
        return self._response.content_type

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield self._decoder.decompress(chunk) if self._decoder else chunk
        except _BROKEN as error:
            raise failure(error, self._idle_s, answered=True) from error

    async def read(self) -> bytes:
        try:
            body = await self._response.read()
            return self._decoder.decompress(body) if self._decoder else body
        except _BROKEN as error:
            raise failure(error, self._idle_s, answered=True) from error


def failure(error: BaseException, idle_s: float, *, answered: bool = False) -> UpstreamFailed:
    """An error of the HTTP client as what it means; its text names hosts and reasons, never a body."""
    if isinstance(error, aiohttp.ServerTimeoutError | asyncio.TimeoutError) and not isinstance(
        error, aiohttp.ConnectionTimeoutError
    ):
        return UpstreamFailed("time-out", idle_s, answered=answered)
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamFailed(f"connection to {error.host}:{error.port} failed")
    return UpstreamFailed(type(error).__name__, answered=answered)


class _Sending:
    """One request on its way; entered, its answer. (A class, for a generator would cost more than it says.)"""

    def __init__(self, request: _RequestContextManager, idle_s: float, *, plain: bool) -> None:
        self._request, self._idle_s, self._plain = request, idle_s, plain
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> HttpResponse:
        try:
            self._response = await self._request
        except _BROKEN as error:
            raise failure(error, self._idle_s) from error
        try:
            return HttpResponse(self._response, self._idle_s, plain=self._plain)
        except UpstreamFailed:
            self._response.close()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._response is not None
        if kind is None:
            self._response.release()
        else:
            # The body was not read to its end: this connection cannot be used again, and Claude should stop.
            self._response.close()


@lru_cache(maxsize=256)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


class HttpUpstream:
    """Connections to Claude, kept and used again."""

    def __init__(self, config: UpstreamConfig) -> None:
        """Raises TlsError where the certificates are none."""
        self._base = config.url.rstrip("/")
        self._idle_s = config.idle_timeout_s
        self._server_name = config.server_name or None
        tls = True if config.tls is None else context(config.tls, "spec.upstream.tls")
        # No limit on connections: what an agent opens towards us it may open towards Claude.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=config.connect_timeout_s, sock_read=config.idle_timeout_s
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    def send(
        self, method: str, path: str, query: str, headers: Headers, body: bytes | AsyncIterator[bytes], *, plain: bool
    ) -> "_Sending":
        url = _url(f"{self._base}{path}?{query}" if query else f"{self._base}{path}")
        request = self._session.request(
            method,
            url,
            headers=CIMultiDict(headers),
            data=_payload(body),
            allow_redirects=False,
            server_hostname=self._server_name,
        )
        return _Sending(request, self._idle_s, plain=plain)

    async def close(self) -> None:
        await self._session.close()


def _payload(body: bytes | AsyncIterator[bytes]) -> bytes | io.BytesIO | AsyncIterator[bytes] | None:
    """What aiohttp is given. A large body goes out in pieces: in one it would hold up the loop."""
    if isinstance(body, bytes) and len(body) > LARGE:
        return io.BytesIO(body)
    return body or None
