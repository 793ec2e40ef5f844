"""A TCP proxy that misbehaves on request: put it before any store."""

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class FaultProxy:
    """Forwards connections from ``127.0.0.1:port`` to a target, and does one kind of harm at a time.

    :param target: (host, port), or the path of a unix socket.

    Use as ``async with FaultProxy(target) as proxy``. All faults last until :meth:`heal` except the one-shot ones
    (:meth:`lose_next_reply`, :meth:`cut_after`).
    """

    host = "127.0.0.1"

    def __init__(self, target: tuple[str, int] | Path) -> None:
        self.target = target
        self.port = 0
        self.replies_lost = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._delay = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._lose_next = False
        self._bytes_left: int | None = None

    # -------------------------------------------------------------------------------------------------------- faults

    async def heal(self) -> None:
        """Forward again. Bytes held by :meth:`blackhole` go on their way, as a network's retransmissions would."""
        self._delay = 0.0
        self._lose_next = False
        self._bytes_left = None
        self._flowing.set()
        if self._server is None:
            await self._listen()

    def delay(self, seconds: float) -> None:
        """Hold each piece so long, in both directions."""
        self._delay = seconds

    def blackhole(self) -> None:
        """Accept connections and bytes, pass nothing on."""
        self._flowing.clear()

    async def refuse(self) -> None:
        """Cut what is open and refuse new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset the connections that are open now."""
        for writer in tuple(self._open):
            writer.transport.abort()

    def cut_after(self, count: int) -> None:
        """Pass ``count`` more bytes of replies, then reset the connection that carries the next; once."""
        self._bytes_left = count

    def lose_next_reply(self) -> None:
        """Let the next request reach the target, swallow what it answers and reset that connection; once."""
        self._lose_next = True

    # ---------------------------------------------------------------------------------------------------- forwarding

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        self._flowing.set()
        while self._open:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connection, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._flowing.wait()
            if isinstance(self.target, Path):
                far_reader, far_writer = await asyncio.open_unix_connection(self.target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            self._open.discard(writer)
            writer.transport.abort()
            return
        self._open.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, replies=False))
                group.create_task(self._pump(far_reader, writer, replies=True))
        except* OSError:
            pass
        finally:
            for each in (writer, far_writer):
                each.transport.abort()
                self._open.discard(each)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await source.read(65536):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flowing.wait()
            cut = False
            if replies:
                data, cut = self._harm(data)
            sink.write(data)
            await sink.drain()
            if cut:
                raise ConnectionResetError
        with suppress(OSError):
            sink.write_eof()

    def _harm(self, data: bytes) -> tuple[bytes, bool]:
        """What is passed on of a reply, and whether the connection is reset behind it."""
        passed = len(data)
        if self._lose_next:
            passed = 0
        elif self._bytes_left is not None:
            passed = min(self._bytes_left, passed)
            self._bytes_left -= passed
        if passed == len(data):
            return data, False
        self._lose_next, self._bytes_left = False, None
        self.replies_lost += 1
        return data[:passed], True
