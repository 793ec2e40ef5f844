"""The client's side of one exchange: how an answer is written."""

import time
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from agentmemory_sidecar.http.incoming import Connection, Request
from agentmemory_sidecar.step.exchange import ClientGone, Headers

_BODILESS = frozenset({204, 304})
_LAST_CHUNK = b"0\r\n\r\n"


class HttpClient:
    """Writes one answer. A streamed answer that is not ended is cut, so that no client takes it for whole."""

    __slots__ = ("_bodiless", "_chunked", "_connection", "_request", "begun", "ended")

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection, self._request = connection, request
        self.begun = self.ended = False
        self._chunked = self._bodiless = False

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.begun = True
        bodiless = self._request.method == "HEAD" or status in _BODILESS
        said = self._head(status, headers, "" if status in _BODILESS else f"content-length: {len(body)}\r\n")
        self._connection.write(said if bodiless else said + body)
        if self._connection.full:
            await self._connection.drain()
        self.ended = True

    async def begin(self, status: int, headers: Headers) -> None:
        self.begun = True
        self._bodiless = self._request.method == "HEAD" or status in _BODILESS
        self._chunked = self._request.version != "1.0" and not self._bodiless
        if not self._chunked and not self._bodiless:
            self._request.keep_alive = False  # to a client of HTTP/1.0 the body ends with the connection
        self._connection.write(self._head(status, headers, "transfer-encoding: chunked\r\n" if self._chunked else ""))

    async def write(self, data: bytes) -> None:
        if data and not self._bodiless:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
            if self._connection.full:
                await self._connection.drain()

    async def end(self, data: bytes = b"") -> None:
        if self._chunked:  # the last bytes in one piece with the stream's end
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else _LAST_CHUNK
        if data and not self._bodiless:
            self._connection.write(data)
        elif not self._connection.open:
            raise ClientGone
        if self._connection.full:
            await self._connection.drain()
        self.ended = True

    def when_gone(self, call: Callable[[], object]) -> None:
        self._request.when_gone = call

    def _head(self, status: int, headers: Headers, framing: str) -> bytes:
        lines = [_status_line(status), *[f"{name}: {value}\r\n" for name, value in headers]]
        if "date" not in [name.lower() for name, _ in headers]:
            lines.append(_date(int(time.time())))
        if not self._request.keep_alive:
            lines.append("connection: close\r\n")
        elif self._request.version == "1.0":
            lines.append("connection: keep-alive\r\n")
        lines.append(framing)
        head = "".join(lines)
        if head.count("\n") != len(lines) - (not framing):
            raise ValueError("a header holds a line end")
        return f"{head}\r\n".encode("utf-8", "surrogateescape")


@lru_cache
def _status_line(status: int) -> str:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    return f"HTTP/1.1 {status} {reason}\r\n"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return f"date: {formatdate(second, usegmt=True)}\r\n"
