"""The server's side of HTTP/1.1: a connection's bytes become requests, one task for each.

llhttp (through httptools) reads the protocol; what is here is order: one request after another, bodies no faster than
they are read, answers no faster than the client takes them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, cast

import httptools

from agentmemory_sidecar.step.exchange import ClientGone
from agentmemory_sidecar.tasks import Tasks

MOST_HEADERS = 128
MOST_HEADER_BYTES = 65_536
"""Of one request: its target, and its header's names and values."""
HIGH_WATER = 262_144
"""Bytes of a body that wait to be read before the connection is read no further."""
LINGER_S = 10.0
"""How long the rest of a body that nobody wants is read, so that the client sees its answer instead of a reset."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REFUSED = "HTTP/1.1 {} {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BodyTooLarge(Exception):
    """The body has more bytes than the reader takes."""


class Request:
    """One request: its head, and its body as it comes."""

    __slots__ = ("_chunks", "_connection", "_expects", "_size", "_waiter", "complete", "headers", "keep_alive", "lower",
                 "method", "target", "version", "when_gone")  # fmt: skip

    def __init__(self, connection: "Connection", method: str, target: str, headers: list[tuple[str, str]]) -> None:
        self._connection = connection
        self.method, self.target, self.headers = method, target, headers
        self.lower: dict[str, str] = {}
        """By lower-case name, the first value of each."""
        for name, value in headers:
            self.lower.setdefault(name.lower(), value)
        self.version, self.keep_alive = "1.1", True
        self.complete = False
        """Whether the body has arrived to its end."""
        self.when_gone: Callable[[], object] | None = None
        """Called when the client leaves before its answer is complete."""
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._expects = self.lower.get("expect", "").lower() == "100-continue"

    @property
    def has_body(self) -> bool:
        return not self.complete or bool(self._chunks)

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises :class:`BodyTooLarge`, and ClientGone where the client leaves before its end."""
        declared = self.lower.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise BodyTooLarge  # before it has come
        if not self.complete:
            pieces, size = [], 0
            async for chunk in self.chunks():
                pieces.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge
            return b"".join(pieces)
        if self._size > limit:
            raise BodyTooLarge
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ClientGone."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._size -= len(chunk)
                yield chunk
            if self.complete:
                return
            self._connection.want_more(send=_CONTINUE if self._expects else b"")
            self._expects = False
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes of the body in; True where it is enough for now."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._wake()
        return self._size > HIGH_WATER

    def end(self) -> None:
        self.complete = True
        self._wake()

    def forget(self) -> None:
        """Nobody reads the rest of the body."""
        self._chunks.clear()
        self._size = 0

    def gone(self) -> None:
        """The client has left."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ClientGone())
        if self.when_gone is not None:
            self.when_gone()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connections(Protocol):
    """Who keeps the open connections and answers their requests."""

    tasks: Tasks

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...

    def answer(self, connection: "Connection", request: Request) -> Coroutine[Any, Any, None]:
        """Answers one request; called once for each, one after another."""
        ...


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._header_bytes = 0
        self._offered = ""
        """Method of a request that offers another protocol, until it is read again without."""
        self._reading: Request | None = None
        """Whose body is arriving."""
        self._waiting: deque[Request] = deque()
        """Requests that were sent before the one before was answered."""
        self._serving: Request | None = None
        self._transport: asyncio.Transport | None = None
        self._drained: asyncio.Future[None] | None = None
        self._full = False
        self._paused = False
        self._linger: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._connections.closed(self)
        self._waiting.clear()
        if self._linger is not None:
            self._linger.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._serving is not None:
            self._serving.gone()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._refuse_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _HeadTooLarge):
                raise
            self._refuse(431, "Request Header Fields Too Large")
        except httptools.HttpParserError:
            self._refuse(400, "Bad Request")

    def _refuse_upgrade(self, rest: bytes) -> None:
        """A client offers another protocol, or wants a tunnel. An offer is not taken: the request is read again without it,
        for llhttp takes what follows for the other protocol, though it may be the request's body."""
        method, headers = self._offered, self._headers
        self._offered, self._parser = "", httptools.HttpRequestParser(self)
        if method == "CONNECT":
            self._refuse(405, "Method Not Allowed")
            return
        named = {
            part.strip().lower() for name, value in headers if name.lower() == "connection" for part in value.split(",")
        }
        kept = [
            f"{name}: {value}\r\n" for name, value in headers if name.lower() not in named | {"connection", "upgrade"}
        ]
        first = f"{method} {self._target.decode('utf-8', 'surrogateescape')} HTTP/1.1\r\n"
        self.data_received(f"{first}{''.join(kept)}\r\n".encode("utf-8", "surrogateescape") + rest)

    def _refuse(self, status: int, reason: str) -> None:
        """Bytes that are no request. While another one is being answered, its answer must not be broken into."""
        if self._transport is None:
            return
        if self._serving is None:
            self._transport.write(_REFUSED.format(status, reason).encode())
            self._transport.close()
        else:
            self._serving.keep_alive = False
            self._pause()

    # ---------------------------------------------------------------------------------------------------- from the parser

    def on_message_begin(self) -> None:
        self._target, self._headers, self._header_bytes = b"", [], 0

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._header_bytes += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MOST_HEADER_BYTES or len(headers) >= MOST_HEADERS:
            raise _HeadTooLarge
        headers.append((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            self._offered = parser.get_method().decode()
            return
        target = self._target.decode("utf-8", "surrogateescape")
        request = Request(self, parser.get_method().decode(), target, self._headers)
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        self._reading = request
        if self._serving is None:
            self._serve(request)
        else:
            self._waiting.append(request)
            self._pause()

    def on_body(self, chunk: bytes) -> None:
        request = self._reading
        if request is not None and self._linger is None and request.feed(chunk):
            self._pause()

    def on_message_complete(self) -> None:
        if self._offered:
            return
        if self._reading is not None:
            self._reading.end()
            self._reading = None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
            self._next()

    # ---------------------------------------------------------------------------------------------------- for the answers

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Raises ClientGone."""
        if self._transport is None or self._transport.is_closing():
            raise ClientGone
        self._transport.write(data)

    @property
    def full(self) -> bool:
        """Whether the client takes less than it is sent: wait with :meth:`drain` before more."""
        return self._full

    async def drain(self) -> None:
        """Wait until the client has taken most of what it was sent. Raises ClientGone."""
        while self._full and self._transport is not None:
            self._drained = self._loop.create_future()
            await self._drained
        if self._transport is None:
            raise ClientGone

    def want_more(self, *, send: bytes = b"") -> None:
        """More of the body is wanted now."""
        if self._transport is not None:
            if send:
                self._transport.write(send)
            if self._paused and not self._waiting:
                self._paused = False
                self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _serve(self, request: Request) -> None:
        self._serving = request
        self._connections.tasks.start(self._answer(request), "request")

    async def _answer(self, request: Request) -> None:
        ended = False
        try:
            await self._connections.answer(self, request)
            ended = request.keep_alive
        finally:
            self._end(request, go_on=ended)

    def _end(self, request: Request, *, go_on: bool) -> None:
        """The answer is complete, or never will be: on to the next request, or the connection ends."""
        request.when_gone = None
        self._serving = None
        if self._transport is None or self._transport.is_closing():
            return
        if not go_on and request.complete:
            self._transport.close()
        elif request.complete:
            self._next()
        else:
            # What is left of the body is read and forgotten; on a connection that goes on, the next request follows it.
            request.forget()
            transport = self._transport
            self._linger = self._loop.call_later(LINGER_S, transport.close)
            request.keep_alive = go_on
            self._serving = request
            self.want_more()

    def _next(self) -> None:
        if self._serving is not None and not self._serving.keep_alive:
            self.abort()
            return
        self._serving = None
        if self._waiting:
            self._serve(self._waiting.popleft())
        self.want_more()

    def abort(self) -> None:
        """Cut the connection: an answer that is not complete must not look as if it were."""
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """End the connection if nothing is being answered, else with the end of that answer."""
        if self._serving is None:
            self.abort()
        else:
            self._serving.keep_alive = False


class _HeadTooLarge(Exception):
    pass
