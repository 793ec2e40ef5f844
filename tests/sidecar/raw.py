"""An upstream that sends the very bytes it is given, for what the strict Claude would never send."""

import asyncio
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web

CUT = b"\0cut"
"""In a script: drop the connection here."""
STALL = b"\0stall"
"""In a script: send nothing more, and keep the connection."""


@dataclass
class Seen:
    method: str
    path: str
    """With its query, as it came."""
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class RawUpstream:
    """Answers every request with ``status``, ``headers`` and ``chunks``, each chunk written by itself."""

    status: int = 200
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(default_factory=dict)
    chunks: Sequence[bytes] | AsyncIterable[bytes] = ()
    seen: list[Seen] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request was cancelled by its client."""
    url: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> "RawUpstream":
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, auto_decompress=False, handler_cancellation=True, shutdown_timeout=0.2, access_log=None
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.content.read()
        self.seen.append(Seen(request.method, request.raw_path, list(request.headers.items()), body))
        response = web.StreamResponse(status=self.status, headers=self.headers)
        try:
            await response.prepare(request)
            async for chunk in _each(self.chunks if request.method != "HEAD" else ()):
                if chunk == CUT:
                    assert request.transport is not None
                    request.transport.close()
                    return response
                if chunk == STALL:
                    await asyncio.Event().wait()
                await response.write(chunk)
                await asyncio.sleep(0)
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise
        return response


async def _each(chunks: Sequence[bytes] | AsyncIterable[bytes]) -> AsyncIterable[bytes]:
    if isinstance(chunks, Sequence):
        for chunk in chunks:
            yield chunk
    else:
        async for chunk in chunks:
            yield chunk


EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8", "request-id": "req_raw"}
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_raw","type":"message","role":"assistant",'
    b'"model":"claude-opus-5-5","content":[],"stop_reason":null,"stop_sequence":null,'
    b'"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
)
BLOCK = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
TEXT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"Hello."}}\n\n'
)
STOP_BLOCK = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
DELTA = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":4}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
WHOLE = (START, BLOCK, TEXT, STOP_BLOCK, DELTA, STOP)
"""A good reply, frame by frame."""
