"""A request as the stand-in understands it, and the small helpers everything else reads it with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.claude.models import Model

Block = dict[str, Any]
Message = dict[str, Any]


@dataclass
class Prompt:
    """System, tools and messages of one request, with the history that a thread held for it put in front."""

    model: Model
    params: dict[str, Any]
    """The decoded body."""
    system: list[Block]
    tools: list[Block]
    messages: list[Message]
    held: int = 0
    """How many of ``messages`` came from the thread; indexes in errors count from there."""
    betas: frozenset[str] = frozenset()
    version: str = ""
    workspace: str = ""
    """Whatever isolates caches: a hash of the credentials."""
    previous: str = ""
    """The message id a thread is continued from."""
    dropped: list[dict[str, Any]] = field(default_factory=list)
    """``input_transformations`` entries: thinking blocks taken out because they failed their check."""

    @property
    def stream(self) -> bool:
        return self.params.get("stream") is True

    @property
    def thinking(self) -> dict[str, Any]:
        found = self.params.get("thinking")
        return found if isinstance(found, dict) else {}

    def at(self, index: int) -> str:
        """How errors name a message: ``messages.N``, counted as the client sent them."""
        return f"messages.{index - self.held}"


def blocks_of(content: Any) -> list[Block]:
    """Content as blocks: a string stands for one text block; None for nothing."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def texts_of(content: Any) -> Iterator[str]:
    """All text in a message's content, that of tool results included."""
    for block in blocks_of(content):
        if block.get("type") == "text":
            yield block.get("text") or ""
        elif block.get("type") == "tool_result":
            yield from texts_of(block.get("content"))


def asked(messages: list[Message]) -> int:
    """Index of the user message that began the current turn: the last that is not (partly) tool results; -1 if none."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message["role"] == "user" and not any(
            block.get("type") == "tool_result" for block in blocks_of(message["content"])
        ):
            return index
    return -1


def step(messages: list[Message], begin: int) -> int:
    """Which step of its turn a request is: how many assistant messages follow the message that began it."""
    return sum(message["role"] == "assistant" for message in messages[begin + 1 :])
