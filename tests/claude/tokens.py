"""Token counts: a quarter of the characters, rounded up. Wrong for any one text, right for comparing two."""

import msgspec

from tests.claude.prompt import Block


def tokens(chars: int) -> int:
    return -(-chars // 4)


def chars(block: Block) -> int:
    """Characters of one reply block that the model wrote."""
    match block["type"]:
        case "text":
            return len(block["text"])
        case "thinking":
            return len(block["thinking"])
        case "tool_use":
            return len(block["name"]) + len(msgspec.json.encode(block["input"]))
    return len(msgspec.json.encode(block))


def output_tokens(blocks: list[Block]) -> int:
    return max(1, tokens(sum(chars(block) for block in blocks))) if blocks else 0


def truncate(blocks: list[Block], limit: int) -> bool:
    """Cut the content where it exceeds ``limit`` tokens; tells whether it did. Thinking is never cut."""
    left = limit * 4
    for index, block in enumerate(blocks):
        size = chars(block)
        if size > left and block["type"] in ("text", "tool_use"):
            if block["type"] == "text":
                block["text"] = block["text"][:left]
            del blocks[index + (1 if block["type"] == "text" and left else 0) :]
            return True
        left = max(0, left - size)
    return False
