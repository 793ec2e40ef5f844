"""The client's side of HTTP/1.1: connections to one origin, kept and used again, one exchange at a time on each.

llhttp (through httptools) reads the protocol. A silent origin is noticed by one watch over all connections: a timer for
each wait would cost more than everything else that is done for a chunk.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

import aiohappyeyeballs
import httptools

HIGH_WATER = 262_144
"""Bytes of an answer that wait to be read before the connection is read no further."""
PIECE = 262_144
"""A large body is written in pieces of this many bytes: in one it would hold up the loop."""
KEPT_S = 60.0
"""How long an idle connection may be used again."""
ADDRESS_HEAD_START_S = 0.25
"""How long one address of a name is tried before the next one is, too."""
MOST_HEADERS = 256

_NO_BODY = frozenset({204, 304})
_FRAMING = frozenset({"content-length", "transfer-encoding"})


class Broken(Exception):
    """The connection could not be opened, or went before the answer was complete. The text names no content.

    ``timed_out``: because nothing came for too long. ``answered``: the answer had begun. ``unused``: a connection that
    was used before turned out to be closed, and not a byte of an answer came.
    """

    def __init__(self, reason: str, *, timed_out: bool = False, answered: bool = False, unused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out, self.answered, self.unused = timed_out, answered, unused


class Connection(asyncio.Protocol):
    """One connection; :meth:`ask`, then read the answer to its end, and it may be asked again."""

    def __init__(self, idle_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._whole = self._size = 0
        """How many pieces the body has that is there to its end (-1 until then), and the bytes that wait to be read."""
        # The parser's callback for each piece of a body. A stream of 46 events has 46 of them: no call of Python for each.
        self.on_body = self._chunks.append
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._full = self._paused = False
        self._used = False
        self._broken: Broken | None = None
        self._head_only = False
        self._until_end = False
        """The body ends with the connection."""
        self.deadline = float("inf")
        """When the silence has been too long (loop time)."""
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.answered = False
        """Whether the answer's head is there."""
        self.complete = True
        """Whether the answer is there to its end."""
        self.reusable = True
        self.idle_since = 0.0

    # ------------------------------------------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.reusable = False
        if self._until_end and error is None:
            self.complete = True
        if not self.complete and self._broken is None:
            reason = type(error).__name__ if error else "the connection was closed"
            self._broken = Broken(reason, answered=self.answered, unused=self._used and not self.answered)
        self._wake()
        self._wake_writer()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake_writer()

    def data_received(self, data: bytes) -> None:
        if self.complete:
            self.close()  # nobody asked for anything
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Broken("its answer is no HTTP/1.1", answered=self.answered))
        while 0 <= self._whole < len(self._chunks):
            self._chunks.pop()  # nobody asked for what comes behind it
        self._size += len(data)
        if self._size > HIGH_WATER and self._chunks and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    # ---------------------------------------------------------------------------------------------------- from the parser

    def on_message_begin(self) -> None:
        if not self.complete:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.complete:
            return  # of a second answer, which nobody asked for
        if len(self.headers) >= MOST_HEADERS:
            raise ValueError("too many headers")
        self.headers.append((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self.complete:
            return  # a 100 or 103: the answer is still to come
        self.status, self.answered = status, True
        if self._head_only:
            # llhttp does not know that no body follows, so it is not asked again.
            self.complete, self.reusable, self._whole = True, False, 0
        elif status not in _NO_BODY and _FRAMING.isdisjoint([name.lower() for name, _ in self.headers]):
            self._until_end, self.reusable = True, False

    def on_message_complete(self) -> None:
        if self.answered and not self.complete:
            self.complete, self._whole = True, len(self._chunks)
            self.reusable = self.reusable and self._parser.should_keep_alive()

    # ----------------------------------------------------------------------------------------------------- for who asks

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, head: bytes, body: bytes | AsyncIterator[bytes], *, chunked: bool, head_only: bool) -> None:
        """Send a request and wait for the answer's head. Raises :class:`Broken`."""
        self._used = self._used or self.answered
        self.answered = self.complete = self._until_end = False
        self._head_only = head_only
        self._broken = None
        self._whole, self._size = -1, 0
        if isinstance(body, bytes) and len(body) <= PIECE:
            self._write(head + body)
        else:
            self._write(head)
            await self._send(pieces(body) if isinstance(body, bytes) else body, chunked=chunked)
        while not self.answered:
            await self._more()

    async def _send(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        async for piece in body:
            if not piece:
                continue
            if self._over():
                self.reusable = False  # it does not want the rest
                return
            self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            while self._full and self._transport is not None:
                self._drained = self._loop.create_future()
                self.deadline = self._loop.time() + self._idle_s
                await self._drained
        if chunked:
            self._write(b"0\r\n\r\n")

    def _over(self) -> bool:
        return self.answered or self._broken is not None

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The rest of the answer's body as it comes. Raises :class:`Broken`."""
        while True:
            if self._chunks:
                yield self._take()
            elif self.complete:
                return
            else:
                await self._more()

    async def read(self) -> bytes:
        """The rest of the answer's body. Raises :class:`Broken`."""
        if self.complete:
            return self._take() if self._chunks else b""
        return b"".join([chunk async for chunk in self.chunks()])

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def _more(self) -> None:
        self._check()
        self.deadline = self._loop.time() + self._idle_s
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.deadline = float("inf")
        if not self._chunks and not self.complete:
            self._check()

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def silent(self) -> None:
        """Nothing came for too long."""
        self._fail(Broken("time-out", timed_out=True, answered=self.answered))

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, why: Broken) -> None:
        if self._broken is None:
            self._broken = why
        self.close()
        self._wake()
        self._wake_writer()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wake_writer(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """A large body in pieces."""
    for at in range(0, len(body), PIECE):
        yield body[at : at + PIECE]


class Origin:
    """Connections to one host and port: no limit to how many, for what an agent opens to us it may open to Claude."""

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None, server_name: str, *, connect_s: float, idle_s: float
    ) -> None:
        self._host, self._port, self._tls, self._server_name = host, port, tls, server_name
        self._connect_s, self._idle_s = connect_s, idle_s
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def connection(self, *, fresh: bool = False) -> Connection:
        """An open connection, the one used last if there is one. Raises :class:`Broken`."""
        found = None if fresh else self._kept()
        connection = found or await self._open()
        self._busy.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s / 20, self._watch)
        return connection

    def give_back(self, connection: Connection) -> None:
        """The exchange is over. A connection with an answer that was not read to its end is closed."""
        self._busy.discard(connection)
        if connection.complete and connection.reusable and connection.open:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()

    def _kept(self) -> Connection | None:
        now = asyncio.get_running_loop().time()
        if self._idle and now - self._idle[0].idle_since > KEPT_S:
            self._idle.pop(0).close()
        while self._idle:
            connection = self._idle.pop()
            if connection.open and now - connection.idle_since <= KEPT_S:
                return connection
            connection.close()
        return None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        where = f"connection to {self._host}:{self._port} failed"
        try:
            async with asyncio.timeout(self._connect_s):
                infos = await loop.getaddrinfo(self._host, self._port, type=1)
                socket = await aiohappyeyeballs.start_connection(
                    infos, happy_eyeballs_delay=ADDRESS_HEAD_START_S, interleave=1, loop=loop
                )
                _, connection = await loop.create_connection(
                    lambda: Connection(self._idle_s),
                    sock=socket,
                    ssl=self._tls,
                    server_hostname=(self._server_name or self._host) if self._tls else None,
                )
        except (TimeoutError, OSError, ssl.SSLError) as error:
            raise Broken(where) from error
        return connection

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for connection in [each for each in self._busy if each.deadline <= now]:
            connection.silent()
        if self._busy:
            self._timer = loop.call_later(self._idle_s / 20, self._watch)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
