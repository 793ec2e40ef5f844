"""Several of Claude's replies as one, without the calls that are answered here. Pure: frames and messages in and out.

The client gets one ``message_start``, blocks with indices that count on from reply to reply, and the end of the last reply
with the usage of all. Everything else in a stream (pings, comments, unknown events) goes on as it came.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agentmemory_sidecar.wire.events import Reply, data_of
from agentmemory_sidecar.wire.reply import frame as as_frame

_INDEX = re.compile(
    rb'event: content_block_(?:start|delta|stop)\ndata: \{"type": ?"content_block_(?:start|delta|stop)", ?"index": ?(\d+)'
)
"""How Claude writes these frames; others are decoded."""
_BLOCKS = frozenset({"content_block_start", "content_block_delta", "content_block_stop"})
_IN_DELTA = (
    "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens", "server_tool_use",
    "output_tokens_details",
)  # fmt: skip
"""Members of the usage that ``message_delta`` may have."""


def is_call(block: Any, name: str) -> bool:
    """Whether a block calls this tool."""
    return isinstance(block, dict) and block.get("type") == "tool_use" and block.get("name") == name


def shown(reply: Reply, name: str) -> list[Any]:
    """A reply's blocks without its calls of this tool."""
    return [block for block in reply.content if not is_call(block, name)]


class Splice:
    """The frames of one reply after the other. Call ``begin`` before each."""

    def __init__(self, name: str) -> None:
        """``name`` is the tool whose calls are hidden."""
        self._name = name
        self._next = 0
        self._started = False
        self._places: dict[int, int] = {}
        """Where the client has a block of the reply that is being read; without those that it does not see."""

    def begin(self) -> None:
        self._places = {}

    def take(self, frame: bytes, kind: str) -> bytes:
        """A frame before the reply's end as the client gets it; empty for one that it does not get."""
        if kind == "message_start":
            first, self._started = not self._started, True
            return frame if first else b""
        if kind not in _BLOCKS:
            return frame
        found = _INDEX.match(frame)
        event: Any = None
        if found is None or kind == "content_block_start":
            try:
                event = msgspec.json.decode(data_of(frame))
            except msgspec.DecodeError:
                return frame  # a delta that nobody can read: not ours to judge
        index = int(found[1]) if found is not None else event.get("index")
        if kind == "content_block_start" and not is_call(event.get("content_block"), self._name):
            self._places[index] = self._next
            self._next += 1
        place = self._places.get(index)
        if place is None:
            return b""
        if place == index:
            return frame
        if found is not None:
            return frame[: found.start(1)] + str(place).encode() + frame[found.end(1) :]
        return as_frame({**event, "index": place})


def joined(replies: Sequence[Reply], name: str) -> Reply:
    """The replies as the one that the client knows: begun as the first, ended as the last."""
    first, last = replies[0], replies[-1]
    if len(replies) == 1 and not any(is_call(block, name) for block in first.content):
        return first
    message = {
        **first.message, **last.message, "id": first.message.get("id"),
        "content": [block for reply in replies for block in shown(reply, name)],
        "usage": total([reply.usage for reply in replies]),
    }  # fmt: skip
    return Reply(message, all(reply.faithful for reply in replies))


def ended(held: Sequence[bytes], replies: Sequence[Reply]) -> list[bytes]:
    """The last frames of the last reply's stream, with the usage of all."""
    if len(replies) == 1:
        return list(held)
    usages = [{name: reply.usage[name] for name in _IN_DELTA if name in reply.usage} for reply in replies]
    return [_with_usage(frame, usages) for frame in held]


def total(usages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Usage of several replies together: numbers are added up, of everything else the last stands."""
    found: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            known = found.get(name)
            if isinstance(value, Mapping):
                found[name] = total([known, value]) if isinstance(known, Mapping) else dict(value)
            elif _is_number(value) and _is_number(known):
                found[name] = known + value
            elif value is not None or name not in found:
                found[name] = value
    return found


def _with_usage(frame: bytes, usages: Sequence[Mapping[str, Any]]) -> bytes:
    data = data_of(frame)
    event = msgspec.json.decode(data) if data else None
    if not isinstance(event, dict) or event.get("type") != "message_delta":
        return frame
    *before, last = usages
    own = event.get("usage")
    return as_frame({**event, "usage": total([*before, {**last, **(own if isinstance(own, dict) else {})}])})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
