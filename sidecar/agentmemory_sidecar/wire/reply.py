"""A stored reply told again, in the mode the client asks for now."""

from collections.abc import Iterator
from typing import Any

import msgspec

_encode = msgspec.json.encode


def frame(event: dict[str, Any]) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + _encode(event) + b"\n\n"


def as_stream(message: dict[str, Any]) -> Iterator[bytes]:
    """The message as the frames of a stream: one delta for each part of a block."""
    usage = message.get("usage") or {}
    opening = {
        **message,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    yield frame({"type": "message_start", "message": opening})
    for index, block in enumerate(message.get("content") or ()):
        start, deltas = _opened(block)
        yield frame({"type": "content_block_start", "index": index, "content_block": start})
        for delta in deltas:
            yield frame({"type": "content_block_delta", "index": index, "delta": delta})
        yield frame({"type": "content_block_stop", "index": index})
    delta = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    delta |= {name: message[name] for name in ("stop_details", "container") if message.get(name) is not None}
    yield frame({"type": "message_delta", "delta": delta, "usage": usage})
    yield frame({"type": "message_stop"})


def _opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as its start and the deltas that fill it."""
    match block.get("type"):
        case "text":
            deltas = [{"type": "text_delta", "text": block.get("text", "")}]
            deltas += [{"type": "citations_delta", "citation": c} for c in block.get("citations") or ()]
            return {**block, "text": "", **({"citations": []} if block.get("citations") else {})}, deltas
        case "thinking":
            deltas = (
                [{"type": "thinking_delta", "thinking": block.get("thinking", "")}] if block.get("thinking") else []
            )
            deltas.append({"type": "signature_delta", "signature": block.get("signature", "")})
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            text = _encode(block.get("input", {})).decode()
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": text}]
        case _:
            return block, []
