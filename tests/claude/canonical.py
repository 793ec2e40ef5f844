"""A prompt as the API compares it for thinking signatures, and as it renders it for the cache: two different things."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from tests.claude.prompt import Block, Message, Prompt, blocks_of

THINKING = ("thinking", "redacted_thinking")


def compared(prompt: Prompt) -> list[tuple[str, bytes]]:
    """(label, bytes) of what every prefix begins with: the system prompt and the tools.

    Not compared: cache markers, tool order, key order, nulls, a string against the one text block it stands for,
    whitespace around text and blocks of nothing else.
    """
    tools = sorted(_sorted(_bare(tool)) for tool in prompt.tools)
    return [("system", _sorted(_content(prompt.system))), ("tools", b"[" + b",".join(tools) + b"]")]


def compared_message(message: Message) -> bytes:
    """One message as compared. Thinking blocks are left out: each has a signature of its own."""
    rest = {k: v for k, v in message.items() if k != "content" and v is not None}
    return _sorted({**rest, "content": _content(message.get("content"))})


def rendered(block: Block) -> bytes:
    """One tool, system block or content block as it enters the cached prompt: key order and whitespace count, markers
    do not, and a string is the one text block it stands for."""
    block = _bare(block)
    if block.get("type") == "tool_result" and "content" in block:
        block = {**block, "content": [_bare(part) for part in blocks_of(block["content"])]}
    return msgspec.json.encode(block)


def _bare(block: Block) -> Block:
    """Without marker and nulls, at this level only: what is deeper may be a tool's own input."""
    return {k: v for k, v in block.items() if k != "cache_control" and v is not None}


def _content(content: Any) -> list[Block]:
    out = []
    for block in blocks_of(content):
        kind = block.get("type")
        if kind in THINKING:
            continue
        block = _bare(block)
        if kind == "text":
            block["text"] = block["text"].strip()
            if not block["text"]:
                continue
        elif kind == "tool_result" and "content" in block:
            block["content"] = _content(block["content"])
        elif kind in ("image", "document") and (block.get("source") or {}).get("type") == "url":
            parts = urlsplit(block["source"]["url"])
            block["source"] = {**block["source"], "url": urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))}
        out.append(block)
    return out


def _sorted(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")
