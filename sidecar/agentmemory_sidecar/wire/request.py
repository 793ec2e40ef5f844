"""One request to the Messages API, read once: its fields, where they stand in the bytes, and its chain of marks."""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from agentmemory_sidecar.wire.canonical import SEED, Chain, blocks, chain, digest
from agentmemory_sidecar.wire.errors import ApiError, bad_encoding, too_large
from agentmemory_sidecar.wire.spans import NotSplicable, Span, elements, members

LIMIT = 32_000_000
"""Bytes the Messages API takes in one request, after decoding."""


class Unreadable(ValueError):
    """The body is not a Messages request that we can read; Claude is left to say what is wrong with it."""


def decode_body(body: bytes, encoding: str) -> bytes:
    """Undo ``content-encoding``. Raises ApiError as the API does (codes from its error reference)."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        decoded = body
    elif encoding == "gzip":
        decoder = zlib.decompressobj(wbits=31)
        try:
            decoded = decoder.decompress(body, LIMIT + 1)
        except zlib.error as error:
            raise bad_encoding("The request body is not valid gzip.", "request_body_encoding_invalid") from error
        if decoder.unconsumed_tail:
            raise ApiError(
                413,
                "request_too_large",
                "Request exceeds the maximum size after decoding.",
                "request_body_too_large_after_decoding",
                retry=False,
            )
        if not decoder.eof:
            raise bad_encoding("The gzip request body is incomplete.", "request_body_encoding_invalid")
    else:
        raise bad_encoding(
            f"Content-Encoding {encoding[:40]!r} is not supported; send gzip or identity.",
            "request_body_encoding_unsupported",
        )
    if len(decoded) > LIMIT:
        raise too_large(LIMIT)
    return decoded


@lru_cache(maxsize=64)
def _digest_of(raw: bytes) -> str:
    # System prompts and tool lists are large and the same from request to request: their digests are remembered.
    return digest(msgspec.json.decode(raw))


@dataclass(frozen=True, slots=True)
class Thread:
    """Message Threads: the request carries only the tail of a history that Claude holds."""

    kind: str
    previous: str = ""


@dataclass(slots=True, weakref_slot=True)
class MessagesRequest:
    """The parsed body. ``fields`` holds the small top-level values; messages are decoded one by one."""

    body: bytes
    top: Mapping[str, Span]
    fields: Mapping[str, Any]
    messages: list[Any]
    message_spans: list[Span]
    base: str = SEED
    """The mark that the first message follows: not the seed when a thread goes on."""
    _chain: Chain | None = field(default=None, repr=False)

    @property
    def model(self) -> str:
        model = self.fields.get("model")
        return model if isinstance(model, str) else ""

    @property
    def streaming(self) -> bool:
        return self.fields.get("stream") is True

    @property
    def thread(self) -> Thread | None:
        thread = self.fields.get("thread")
        if not isinstance(thread, dict):
            return None
        return Thread(str(thread.get("type", "")), str(thread.get("previous_message_id", "")))

    @property
    def continues_thread(self) -> bool:
        thread = self.thread
        return thread is not None and thread.kind == "continue"

    @property
    def chain(self) -> Chain:
        if self._chain is None:
            self._chain = chain(self.messages, self.base)
        return self._chain

    def follow(self, base: str) -> None:
        """Continue the chain of an earlier reply (a thread goes on)."""
        self.base = base
        self._chain = None

    @property
    def last_user(self) -> int:
        """Index of the user message that this request asks about: the last message, or the one before a trailing
        system message; -1 when the request ends otherwise (a resumed ``pause_turn``, a prefill)."""
        index = len(self.messages) - 1
        while index >= 0 and role(self.messages[index]) == "system":
            index -= 1
        return index if index >= 0 and role(self.messages[index]) == "user" else -1

    @property
    def starts_turn(self) -> bool:
        """A turn starts with a user message that is not only tool results."""
        if self.last_user < 0:
            return False
        content = blocks(self.messages[self.last_user].get("content"))
        return any(not is_tool_result(block) for block in content)

    @property
    def has_assistant(self) -> bool:
        return any(role(message) == "assistant" for message in self.messages)

    @property
    def carries_thinking(self) -> bool:
        return any(
            isinstance(block, dict) and block.get("type") in ("thinking", "redacted_thinking")
            for message in self.messages
            if role(message) == "assistant"
            for block in blocks(message.get("content"))
        )

    @property
    def last_user_text(self) -> str:
        """What the user said last, for the filter."""
        index = self.last_user
        return text_of(self.messages[index].get("content")) if index >= 0 else ""

    def mark_of_last_assistant(self) -> str:
        """The mark behind the last assistant message: what a step that extends a conversation was made from."""
        for index in range(len(self.messages) - 1, -1, -1):
            if role(self.messages[index]) == "assistant":
                return self.chain.end(index)
        return self.base

    def raw(self, name: str) -> bytes:
        span = self.top.get(name)
        return self.body[span.start : span.end] if span else b""

    def raw_message(self, index: int) -> bytes:
        span = self.message_spans[index]
        return self.body[span.start : span.end]

    def fingerprint(self, session: str, agent: str) -> str:
        """Equal for requests that ask the same of the same conversation: messages, system and tools, nothing else."""
        parts = [session, agent, self.chain.last]
        parts += [_digest_of(self.raw(name)) if name in self.top else "" for name in ("system", "tools")]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


_BIG = frozenset({"messages", "system", "tools"})


def parse(body: bytes) -> MessagesRequest:
    """Read a Messages request. Raises ``Unreadable`` where it cannot be one, or cannot be edited safely."""
    try:
        top = members(body, Span(0, len(body)))
        if "messages" not in top:
            raise Unreadable("there is no `messages`")
        fields = {
            name: msgspec.json.decode(body[span.start : span.end]) for name, span in top.items() if name not in _BIG
        }
        spans = elements(body, top["messages"])
        messages = [msgspec.json.decode(body[span.start : span.end]) for span in spans]
    except (msgspec.DecodeError, msgspec.ValidationError, NotSplicable, UnicodeDecodeError) as error:
        raise Unreadable(str(error)) from error
    return MessagesRequest(body, top, fields, messages, spans)


def role(message: Any) -> str:
    return str(message.get("role", "")) if isinstance(message, dict) else ""


def is_tool_result(block: Any) -> bool:
    return isinstance(block, dict) and str(block.get("type", "")).endswith("tool_result")


def text_of(content: Any) -> str:
    """The text blocks of a message, joined by line ends."""
    return "\n".join(
        block["text"]
        for block in blocks(content)
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
    )
