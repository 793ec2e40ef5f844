"""Putting a reply on the wire: whole, or as wrongly as a fault asks."""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from tests.claude import errors, events
from tests.claude.faults import Fault
from tests.claude.record import Recorded


@dataclass(frozen=True)
class Manner:
    """How a reply is sent. Times in milliseconds; ``started`` is called when its first byte is about to go out."""

    started: Callable[[], None]
    fault: Fault | None = None
    pace_ms: float = 0
    first_byte_ms: float = 0
    chunk_bytes: int = 0
    ping: bool = True
    pings: int = 0
    extra_events: tuple[events.Event, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    compress: bool = False

    def kind(self) -> str:
        return self.fault.kind if self.fault else ""


async def pause(ms: float) -> None:
    if ms > 0:
        await asyncio.sleep(ms / 1000)


async def fail(request: web.Request, fault: Fault, request_id: str) -> web.Response:
    """The error reply a ``status`` fault asks for; a ``hang`` never returns."""
    if fault.kind == "hang":
        await asyncio.Event().wait()
    headers = {"request-id": request_id}
    if fault.retry_after is not None:
        headers["retry-after"] = f"{fault.retry_after:g}"
    if fault.should_retry is not None:
        headers["x-should-retry"] = str(fault.should_retry).lower()
    return web.Response(
        status=fault.status, body=fault_body(fault, request_id), content_type="application/json", headers=headers
    )


def fault_body(fault: Fault, request_id: str) -> bytes:
    kind = fault.error or errors.TYPES.get(fault.status, "api_error")
    return errors.body(kind, fault.message or errors.MESSAGES.get(fault.status, "Overloaded"), request_id)


async def json(request: web.Request, recorded: Recorded, message: dict[str, Any], how: Manner) -> web.StreamResponse:
    """A message as one JSON body."""
    fault, kind = how.fault, how.kind()
    await pause(how.first_byte_ms + (fault.ms if fault and kind in ("slow_first_byte", "slow_events") else 0))
    if fault and kind == "error_event":
        return await fail(request, fault, recorded.request_id)
    body = msgspec.json.encode(message)
    response = web.StreamResponse(headers={"request-id": recorded.request_id, **dict(how.headers)})
    response.content_type = "application/json"
    if how.compress:
        response.enable_compression()
    else:
        response.content_length = len(body)
    await response.prepare(request)
    how.started()
    if kind in ("fin", "rst", "json_cut", "cut_frame"):
        await response.write(body[: len(body) // 2])
        await _drop(request, reset=kind == "rst")
        return response
    await response.write(body)
    await response.write_eof()
    return response


async def stream(request: web.Request, recorded: Recorded, message: dict[str, Any], how: Manner) -> web.StreamResponse:
    """A message as server-sent events."""
    fault, kind = how.fault, how.kind()
    await pause(how.first_byte_ms + (fault.ms if fault and kind == "slow_first_byte" else 0))
    response = web.StreamResponse(headers={"request-id": recorded.request_id, **dict(how.headers)})
    response.headers["content-type"] = "text/event-stream; charset=utf-8"
    response.headers["cache-control"] = "no-cache"
    if how.compress:
        response.enable_compression()
    elif request.version >= (1, 1):
        response.enable_chunked_encoding()
    await response.prepare(request)
    how.started()
    chunks = _Chunks(response, how.chunk_bytes)
    frames = [events.frame(event) for event in _planned(message, how, recorded.request_id)]
    cut = fault.after if fault and kind in ("fin", "rst", "cut_frame", "stall") else len(frames)
    for data in frames[:cut]:
        await pause(how.pace_ms + (fault.ms if fault and kind == "slow_events" else 0))
        await chunks.write(data)
        recorded.events += 1
    if kind == "cut_frame" and cut < len(frames):
        await chunks.write(frames[cut][: len(frames[cut]) // 2])
    await chunks.flush()
    if kind == "stall":
        await asyncio.Event().wait()
    if kind in ("fin", "rst"):
        await _drop(request, reset=kind == "rst")
    else:
        await response.write_eof()
    return response


def _planned(message: dict[str, Any], how: Manner, request_id: str) -> list[events.Event]:
    """The events to send, with the fault's additions and omissions."""
    middle = list(events.content(message["content"]))
    for number in range(how.pings):
        middle.insert((number + 1) * len(middle) // (how.pings + 1), events.PING)
    planned = [events.start(message), *([events.PING] if how.ping else []), *how.extra_events, *middle]
    planned += events.end(message)
    match how.kind():
        case "error_event":
            assert how.fault is not None
            planned = [*planned[: how.fault.after], {**msgspec.json.decode(fault_body(how.fault, request_id))}]
        case "no_message_stop":
            planned = planned[:-1]
        case "no_message_delta":
            planned = planned[:-2]
    return planned


class _Chunks:
    """Writes events one by one, or in pieces of a fixed size that pay no heed to where an event ends."""

    def __init__(self, response: web.StreamResponse, size: int) -> None:
        self._response = response
        self._size = size
        self._rest = b""

    async def write(self, data: bytes) -> None:
        if not self._size:
            await self._response.write(data)
            return
        self._rest += data
        while len(self._rest) >= self._size:
            piece, self._rest = self._rest[: self._size], self._rest[self._size :]
            await self._response.write(piece)
            await asyncio.sleep(0)

    async def flush(self) -> None:
        if self._rest:
            await self._response.write(self._rest)
            self._rest = b""


async def _drop(request: web.Request, *, reset: bool) -> None:
    """Close the connection where the body is not yet complete: with FIN, or with RST."""
    transport = request.transport
    if transport is None:
        return
    if reset:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.02)  # a reset destroys what the peer has not read yet: let it read the events first
        transport.abort()
    else:
        transport.close()
