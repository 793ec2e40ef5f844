"""A message as the API streams it: a list of events, and each event as an SSE frame."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tests.claude.prompt import Block

Event = dict[str, Any]
PING: Event = {"type": "ping"}


def frame(event: Event) -> bytes:
    """``event: <type>\\ndata: <json>\\n\\n``."""
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), msgspec.json.encode(event))


def start(message: dict[str, Any]) -> Event:
    """``message_start``: the message without its content, not yet stopped, with one output token so far."""
    usage = {**message["usage"], "output_tokens": 1}
    empty = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    return {"type": "message_start", "message": empty}


def content(blocks: list[Block]) -> Iterator[Event]:
    """All events of all content blocks."""
    for index, block in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": _opened(block)}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}


def end(message: dict[str, Any]) -> list[Event]:
    """``message_delta`` with cumulative usage, and ``message_stop``."""
    usage = {k: v for k, v in message["usage"].items() if k not in {"cache_creation", "service_tier"}}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def _opened(block: Block) -> Block:
    match block["type"]:
        case "text":
            return {**block, "text": ""}
        case "thinking":
            return {**block, "thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use":
            return {**block, "input": {}}
    return block


def _deltas(block: Block) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "text":
            for piece in _pieces(block["text"]):
                yield {"type": "text_delta", "text": piece}
        case "thinking":
            for piece in _pieces(block["thinking"]):
                yield {"type": "thinking_delta", "thinking": piece}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use" | "server_tool_use":
            yield {"type": "input_json_delta", "partial_json": ""}
            if block["input"]:
                for piece in _pieces(msgspec.json.encode(block["input"]).decode(), 11):
                    yield {"type": "input_json_delta", "partial_json": piece}


def _pieces(text: str, size: int = 24) -> Iterator[str]:
    """Pieces of about ``size`` characters, but no more than 200 of them."""
    size = max(size, len(text) // 200 + 1)
    for at in range(0, len(text), size):
        yield text[at : at + size]
