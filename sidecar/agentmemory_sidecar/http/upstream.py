"""Claude over HTTP: requests go out as they are, answers come back chunk by chunk."""

import ssl
import zlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from agentmemory_sidecar.http.outgoing import Broken, Connection, Origin
from agentmemory_sidecar.resource.config import UpstreamConfig
from agentmemory_sidecar.step.exchange import Headers, UpstreamFailed
from agentmemory_sidecar.tls import context

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that may be sent again when a connection that was kept turns out to be closed."""


class HttpResponse:
    """An answer that is arriving. With ``plain`` an encoded body is decoded, for we must read it."""

    __slots__ = ("_connection", "_decoder", "_idle_s", "content_type", "headers", "status")

    def __init__(self, connection: Connection, idle_s: float, *, plain: bool) -> None:
        self._connection, self._idle_s = connection, idle_s
        self.status = connection.status
        self.headers: Headers = connection.headers
        self.content_type = ""
        """Without its parameters, in lower case."""
        encoding = "identity"
        for name, value in connection.headers:
            low = name.lower()
            if low == "content-type":
                self.content_type = value.partition(";")[0].strip().lower()
            elif low == "content-encoding" and plain:
                encoding = value.strip().lower()
        self._decoder = None
        if encoding not in ("", "identity"):
            if encoding not in ("gzip", "deflate"):
                said = f"its answer is encoded as {encoding[:20]}, though it was asked for identity"
                raise UpstreamFailed(said)
            self._decoder = zlib.decompressobj(wbits=47)
            self.headers = [pair for pair in self.headers if pair[0].lower() != "content-encoding"]

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._connection.chunks():
                yield self._decoder.decompress(chunk) if self._decoder else chunk
        except Broken as error:
            raise failure(error, self._idle_s) from error
        except zlib.error as error:
            raise UpstreamFailed("its answer is not what its content-encoding says", answered=True) from error

    async def read(self) -> bytes:
        try:
            body = await self._connection.read()
            return self._decoder.decompress(body) if self._decoder else body
        except Broken as error:
            raise failure(error, self._idle_s) from error
        except zlib.error as error:
            raise UpstreamFailed("its answer is not what its content-encoding says", answered=True) from error


def failure(error: Broken, idle_s: float) -> UpstreamFailed:
    """An error of the HTTP client as what it means; its text names hosts and reasons, never a body."""
    return UpstreamFailed(error.reason, idle_s if error.timed_out else 0.0, answered=error.answered)


class _Sending:
    """One request on its way; entered, its answer."""

    __slots__ = ("_body", "_chunked", "_connection", "_head", "_idle_s", "_method", "_origin", "_plain")

    def __init__(
        self, origin: Origin, idle_s: float, method: str, head: bytes, body: bytes | AsyncIterator[bytes], *,
        chunked: bool, plain: bool,
    ) -> None:  # fmt: skip
        self._origin, self._idle_s, self._plain = origin, idle_s, plain
        self._method, self._head, self._body, self._chunked = method, head, body, chunked
        self._connection: Connection | None = None

    async def __aenter__(self) -> HttpResponse:
        try:
            await self._ask(fresh=False)
        except Broken as error:
            if not error.unused or self._method not in _SAFE or not isinstance(self._body, bytes):
                raise failure(error, self._idle_s) from error
            try:
                await self._ask(fresh=True)
            except Broken as again:
                raise failure(again, self._idle_s) from again
        assert self._connection is not None
        try:
            return HttpResponse(self._connection, self._idle_s, plain=self._plain)
        except UpstreamFailed:
            self._connection.close()
            self._origin.give_back(self._connection)
            raise

    async def _ask(self, *, fresh: bool) -> None:
        connection = self._connection = await self._origin.connection(fresh=fresh)
        try:
            await connection.ask(self._head, self._body, chunked=self._chunked, head_only=self._method == "HEAD")
        except BaseException:
            # Also when cancelled: nobody reads the answer, and Claude should stop.
            connection.close()
            self._origin.give_back(connection)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._connection is not None
        if kind is not None:
            # The body was not read to its end: this connection cannot be used again, and Claude should stop.
            self._connection.close()
        self._origin.give_back(self._connection)


class HttpUpstream:
    """Connections to Claude, kept and used again."""

    def __init__(self, config: UpstreamConfig) -> None:
        """Raises TlsError where the certificates are none."""
        url = urlsplit(config.url)
        secure = url.scheme == "https"
        self._path = url.path.rstrip("/")
        self._idle_s = config.idle_timeout_s
        host, port = url.hostname or "localhost", url.port or (443 if secure else 80)
        tls = None
        if secure:
            tls = ssl.create_default_context() if config.tls is None else context(config.tls, "spec.upstream.tls")
            tls.set_alpn_protocols(["http/1.1"])
        self._origin = Origin(
            host, port, tls, config.server_name, connect_s=config.connect_timeout_s, idle_s=config.idle_timeout_s
        )
        name = f"[{host}]" if ":" in host else host
        self._host = name if port == (443 if secure else 80) else f"{name}:{port}"

    def send(
        self, method: str, path: str, query: str, headers: Headers, body: bytes | AsyncIterator[bytes], *, plain: bool
    ) -> "_Sending":
        chunked = False
        lines = [f"{method} {self._path}{path}?{query} HTTP/1.1" if query else f"{method} {self._path}{path} HTTP/1.1"]
        lines.append(f"host: {self._host}")
        lines += [f"{name}: {value}" for name, value in headers]
        if not isinstance(body, bytes):
            chunked = not any(name.lower() == "content-length" for name, _ in headers)
            if chunked:
                lines.append("transfer-encoding: chunked")
        elif body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(body)}")
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1:
            raise UpstreamFailed("a header of the request holds a line end")
        sent = f"{head}\r\n\r\n".encode("utf-8", "surrogateescape")
        return _Sending(self._origin, self._idle_s, method, sent, body, chunked=chunked, plain=plain)

    async def close(self) -> None:
        self._origin.close()
