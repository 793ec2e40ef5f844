"""Cache breakpoints: how many, on what, and in which order of lifetimes."""

from collections.abc import Iterator
from typing import Any

from tests.claude.errors import bad
from tests.claude.prompt import Block, Prompt, blocks_of

MAXIMUM = 4


def check(prompt: Prompt) -> None:
    """Raise the API's 400 for breakpoints it would not take."""
    sent = list(_sent(prompt))
    top = prompt.params.get("cache_control")
    count = len(sent) + bool(top)
    if count > MAXIMUM:
        raise bad(
            f"A maximum of {MAXIMUM} blocks with cache_control may be provided. Found {count}.", rule="breakpoints"
        )
    if top:
        sent.append(("", {"type": "top", "cache_control": top}))
    short = False
    for at, block in sent:
        if block["type"] == "text" and not block["text"].strip():
            raise bad(f"{at}: cache_control cannot be set for empty text blocks", rule="marker_empty_text")
        ttl = block["cache_control"].get("ttl") or "5m"
        if ttl == "1h" and short:
            raise bad(
                f"{at + '.' if at else ''}cache_control.ttl: a ttl='1h' cache_control block must not come after a "
                "ttl='5m' cache_control block. Note that blocks are processed in the following order: `tools`, "
                "`system`, `messages`.",
                rule="ttl_order",
            )
        short = short or ttl == "5m"


def _sent(prompt: Prompt) -> Iterator[tuple[str, Block]]:
    """Every block with a marker in what this request itself sent, in the order they are processed."""
    params: dict[str, Any] = prompt.params
    yield from _marked("tools", params.get("tools"))
    yield from _marked("system", params.get("system"))
    for n, message in enumerate(prompt.messages[prompt.held :]):
        for m, block in enumerate(blocks_of(message.get("content"))):
            at = f"messages.{n}.content.{m}"
            yield from _marked(f"{at}.content", block.get("content") if block["type"] == "tool_result" else None)
            if block.get("cache_control"):
                yield at, block


def _marked(at: str, blocks: Any) -> Iterator[tuple[str, Block]]:
    for m, block in enumerate(blocks_of(blocks)):
        if block.get("cache_control"):
            yield f"{at}.{m}", {"type": "tool", **block}
