"""A canned Claude: answers /v1/messages with what :mod:`bench.canned` holds, for as little CPU as Python can.

``python -m bench.upstream`` listens on a free loopback port and prints it. ``GET /stats`` tells how many messages were
served, so that a proxy which asks twice, or not at all, is found out.
"""

import asyncio
import json
import sys
from typing import cast

import uvloop

from bench import canned
from bench.http1 import BadMessage, Reader

_HEAD_JSON = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_%s\r\n"
    b"anthropic-organization-id: bench\r\ncontent-length: %d\r\n\r\n"
)
_HEAD_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"request-id: req_%s\r\nanthropic-organization-id: bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
_HEAD_ERROR = b"HTTP/1.1 %d Error\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; the last is ``chunk(b"")``."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Server:
    """Counts the replies; one :class:`Connection` for each client connection."""

    def __init__(self) -> None:
        self.served = 0

    def next_id(self) -> str:
        """A message id that was not given before."""
        self.served += 1
        return canned.message_id(self.served)


class Connection(asyncio.Protocol):
    """Answers one request after another; a paced reply is sent by timers."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        try:
            self._reader.feed(data)
        except BadMessage as error:
            self._refuse(400, str(error))
            self._transport.close()
            return
        if self._reader.done:
            start, body = self._reader.start, bytes(self._reader.body)
            self._reader.next()
            self._answer(start, body)

    def _refuse(self, status: int, reason: str) -> None:
        assert self._transport is not None
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": reason}}
        body = json.dumps(error).encode()
        self._transport.write(_HEAD_ERROR % (status, len(body)) + body)

    def _answer(self, start: bytes, body: bytes) -> None:
        assert self._transport is not None
        method, _, rest = start.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method == b"GET" and path == b"/stats":
            stats = json.dumps({"served": self._server.served}).encode()
            self._transport.write(_HEAD_JSON % (b"stats", len(stats)) + stats)
        elif method == b"POST" and path == b"/v1/messages":
            self._message(body)
        else:
            self._refuse(404, f"the canned upstream has no {start.decode('latin-1')}")

    def _message(self, body: bytes) -> None:
        assert self._transport is not None
        identifier = self._server.next_id()
        request = identifier[4:].encode()
        plan = canned.PLAN in body and canned.PLANNED not in body
        if b'"stream":true' not in body and b'"stream": true' not in body:
            reply = canned.as_json(identifier, plan=plan)
            self._transport.write(_HEAD_JSON % (request, len(reply)) + reply)
            return
        chunks = [chunk(frame) for frame in canned.as_frames(identifier, plan=plan)]
        chunks[0] = _HEAD_STREAM % request + chunks[0]
        chunks[-1] += chunk(b"")
        if canned.PACED in body:
            self._send_paced(chunks, 0, asyncio.get_running_loop().time())
        else:
            self._transport.write(b"".join(chunks))

    def _send_paced(self, chunks: list[bytes], at: int, began: float) -> None:
        """Send chunk ``at`` and set the timer for the next by the stream's own start, so that delays do not add up."""
        if self._transport is None:
            return
        self._transport.write(chunks[at])
        if at + 1 < len(chunks):
            when = began + (at + 1) * canned.PACE
            self._timer = asyncio.get_running_loop().call_at(when, self._send_paced, chunks, at + 1, began)


async def serve() -> None:
    """Listen on a free loopback port, print it, and serve until stdin ends: no run leaves it behind."""
    state = Server()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
