"""One request to the Messages API, read once: its fields, where they stand in the bytes, and its chain of marks."""

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from agentmemory_sidecar.wire.canonical import NO_CHAIN, SEED, Chain, block_digests, blocks, chain, digest
from agentmemory_sidecar.wire.errors import ApiError, bad_encoding, too_large
from agentmemory_sidecar.wire.spans import (
    NotSplicable,
    Span,
    spans_of_members,
    split_array,
    split_object,
    starts_of_elements,
)

LIMIT = 32_000_000
"""Bytes the Messages API takes in one request, after decoding."""


MEMORY_TOOL = b"memory_20250818"
"""The type of Claude's memory tool, as a request declares it."""


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
        if decoder.unconsumed_tail or len(decoded) > LIMIT:
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


@lru_cache(maxsize=16)
def _digest_of(raw: bytes) -> str:
    # System prompts and tool lists are large and the same from request to request: their digests are remembered.
    return digest(msgspec.json.decode(raw))


@dataclass(frozen=True, slots=True)
class Thread:
    """Message Threads: the request carries only the tail of a history that Claude holds."""

    kind: str
    previous: str = ""


@dataclass(frozen=True, slots=True)
class Sketch:
    """What must be known of a message without reading it again."""

    role: str
    digests: tuple[bytes, ...]
    """One for each block as the API compares it."""
    thinking: bool
    only_results: bool
    """Tool results and nothing else."""


class Sketches:
    """Sketches by their messages' bytes.

    A conversation is sent whole with each request, and all but its last messages are the very bytes of the request before:
    they are recognised, not parsed. ``limit`` in bytes bounds what is kept; when it is full, all is forgotten.
    """

    def __init__(self, limit: int = 700_000, longest: int = 32_768) -> None:
        self._limit, self._longest, self._size = limit, longest, 0
        self._known: dict[bytes, Sketch] = {}

    def of(self, raw: bytes) -> Sketch:
        # A long message is known by its digest: megabytes are not kept for being recognised.
        key = raw if len(raw) <= self._longest else hashlib.blake2b(raw).digest()
        found = self._known.get(key)
        if found is not None:
            return found
        made = sketch(msgspec.json.decode(raw))
        if self._size > self._limit:
            self._known.clear()
            self._size = 0
        self._known[key] = made
        self._size += len(key) + 400
        return made


def sketch(message: Any) -> Sketch:
    """Messages that are not objects are hashed as they are: Claude refuses them anyway."""
    if not isinstance(message, dict):
        return Sketch("", block_digests("", [message]), thinking=False, only_results=False)
    who, content = role(message), message.get("content")
    if type(content) is str:
        return Sketch(who, block_digests(who, content), thinking=False, only_results=False)
    kinds = [str(block.get("type", "")) if isinstance(block, dict) else "" for block in blocks(content)]
    return Sketch(
        who,
        block_digests(who, content),
        thinking=who == "assistant" and any(kind in ("thinking", "redacted_thinking") for kind in kinds),
        only_results=all(kind.endswith("tool_result") for kind in kinds),
    )


_sketches = Sketches()

Placed = tuple[Any, tuple[int, int], list[tuple[int, bytes]]]
"""What was put in, the place (message, block) it stands behind, and the insertions (offset, bytes) that put it there."""


@dataclass(slots=True)
class MessagesRequest:
    """The parsed body. ``fields`` holds the small top-level values; messages are decoded when they are asked for."""

    body: bytes
    fields: Mapping[str, Any]
    sizes: list[int]
    """Bytes of each message."""
    starts: list[int]
    """Where each begins in the body."""
    sketches: list[Sketch]
    sides: tuple[bytes, bytes]
    """System prompt and tools as raw JSON; empty where there are none."""
    base: str = SEED
    """The mark that the first message follows: not the seed when a thread goes on."""
    placed: dict[str, Placed] = field(default_factory=dict, repr=False)
    """What was put in where, by the ledger: offsets stay as long as all before them stays."""
    carries_thinking: bool = False
    """Whether any assistant message has thinking blocks."""
    chain: Chain = field(default=NO_CHAIN, repr=False)
    _digests: tuple[str, str] | None = field(default=None, repr=False)
    _memory_tool: bool | None = field(default=None, repr=False)
    _last_user: int | None = field(default=None, repr=False)
    _decoded: dict[int, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """How many messages there are."""
        return len(self.sizes)

    def raw(self, index: int) -> bytes:
        """A message as JSON."""
        start = self.starts[index]
        return self.body[start : start + self.sizes[index]]

    def message(self, index: int) -> Any:
        if index not in self._decoded:
            self._decoded[index] = msgspec.json.decode(self.raw(index))
        return self._decoded[index]

    def messages(self, start: int = 0) -> list[Any]:
        """The messages from ``start`` on, decoded."""
        return [self.message(index) for index in range(start, len(self))]

    def span_of(self, index: int) -> Span:
        """Where a message stands in the body."""
        return Span(self.starts[index], self.starts[index] + self.sizes[index])

    @property
    def end(self) -> int:
        """Where the last message ends in the body."""
        return self.starts[-1] + self.sizes[-1]

    def continued(self, body: bytes) -> "MessagesRequest | None":
        """The body as a request that has all of this one and more messages behind its last; None where it has not.

        Claude's clients send the whole conversation each time. Where it only grew, nothing of it is read again: what
        stands before and behind the new messages is compared, byte for byte.
        """
        if not self.sizes or self.base != SEED:
            return None
        cut = self.end
        tail = len(self.body) - cut
        before = memoryview(self.body)  # compared in place: a slice would copy the conversation
        if len(body) < len(self.body) or not body.startswith(before[:cut]) or not body.endswith(before[cut:]):
            return None
        middle = body[cut:-tail]
        if middle and not middle.startswith(b","):
            return None
        between = b"[" + middle[1:] + b"]"
        added = [bytes(raw) for raw in split_array(between)]
        if middle and not added:
            return None
        sizes = [len(raw) for raw in added]
        sketches = [_sketches.of(raw) for raw in added]
        return MessagesRequest(
            body,
            self.fields,
            self.sizes + sizes,
            self.starts + starts_of_elements(between, sizes, cut),
            self.sketches + sketches,
            self.sides,
            placed=dict(self.placed),
            carries_thinking=self.carries_thinking or any(sketch.thinking for sketch in sketches),
            chain=self.chain.continued([sketch.digests for sketch in sketches]),
            _digests=self._digests,
            _memory_tool=self._memory_tool,
        )

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
        if "thread" not in self.fields:
            return False
        thread = self.thread
        return thread is not None and thread.kind == "continue"

    def follow(self, base: str) -> None:
        """Continue the chain of an earlier reply (a thread goes on)."""
        self.base = base
        self.chain = chain([sketch.digests for sketch in self.sketches], base)

    @property
    def last_user(self) -> int:
        """Index of the user message that this request asks about: the last message, or the one before a trailing
        system message; -1 when the request ends otherwise (a resumed ``pause_turn``, a prefill)."""
        if self._last_user is None:
            index = len(self.sizes) - 1
            while index >= 0 and self.sketches[index].role == "system":
                index -= 1
            self._last_user = index if index >= 0 and self.sketches[index].role == "user" else -1
        return self._last_user

    @property
    def starts_turn(self) -> bool:
        """A turn starts with a user message that is not only tool results."""
        return self.last_user >= 0 and not self.sketches[self.last_user].only_results

    @property
    def has_assistant(self) -> bool:
        return any(sketch.role == "assistant" for sketch in self.sketches)

    @property
    def last_user_text(self) -> str:
        """What the user said last, for the filter."""
        index = self.last_user
        return text_of(self.message(index).get("content")) if index >= 0 else ""

    @property
    def names_memory_tool(self) -> bool:
        """Whether the type of Claude's memory tool stands anywhere in its tools."""
        if self._memory_tool is None:
            self._memory_tool = MEMORY_TOOL in self.sides[1]
        return self._memory_tool

    def mark_of_last_assistant(self) -> str:
        """The mark behind the last assistant message: what a step that extends a conversation was made from."""
        for index in range(len(self) - 1, -1, -1):
            if self.sketches[index].role == "assistant":
                return self.chain.end(index)
        return self.base

    def fingerprint(self, session: str, agent: str) -> str:
        """Equal for requests that ask the same of the same conversation: messages, system and tools, nothing else."""
        if self._digests is None:
            system, tools = self.sides
            self._digests = _digest_of(system) if system else "", _digest_of(tools) if tools else ""
        parts = [session, agent, self.chain.last, *self._digests]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


_BIG = frozenset({"messages", "system", "tools"})


def parse(body: bytes, before: MessagesRequest | None = None) -> MessagesRequest:
    """Read a Messages request; ``before`` is one that it may continue, perhaps. Raises ``Unreadable`` where it cannot be
    one, or cannot be edited safely."""
    try:
        if before is not None and (continued := before.continued(body)) is not None:
            return continued
        top = split_object(body)
        if "messages" not in top:
            raise Unreadable("there is no `messages`")
        fields = {name: msgspec.json.decode(value) for name, value in top.items() if name not in _BIG}
        at = spans_of_members(body, top)["messages"]
        raws = [bytes(raw) for raw in split_array(top["messages"])]
        sizes = [len(raw) for raw in raws]
        starts = starts_of_elements(body[at.start : at.end], sizes, at.start)
        sides = bytes(top.get("system", b"")), bytes(top.get("tools", b""))
        sketches = [_sketches.of(raw) for raw in raws]
        thinking = any(sketch.thinking for sketch in sketches)
        marks = chain([sketch.digests for sketch in sketches])
        return MessagesRequest(body, fields, sizes, starts, sketches, sides, carries_thinking=thinking, chain=marks)
    except (msgspec.DecodeError, msgspec.ValidationError, NotSplicable, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from error


class Newest:
    """The newest request of each session, for the next to be read from where it ended. ``limit`` in bytes."""

    def __init__(self, limit: int = 1_600_000, longest: int = 262_144) -> None:
        self._limit, self._longest, self._size = limit, longest, 0
        self._kept: OrderedDict[str, MessagesRequest] = OrderedDict()

    def parse(self, session: str, body: bytes) -> MessagesRequest:
        """``session``: whatever tells sessions apart most of the time; empty where nothing does. Raises Unreadable."""
        if not session:
            return parse(body)
        before = self._kept.pop(session, None)
        if before is not None:
            self._size -= len(before.body)
        request = parse(body, before)
        if len(body) <= self._longest:
            self._kept[session] = request
            self._size += len(body)
            while self._size > self._limit:
                self._size -= len(self._kept.popitem(last=False)[1].body)
        return request


def role(message: Any) -> str:
    return str(message.get("role", "")) if isinstance(message, dict) else ""


def text_of(content: Any) -> str:
    """The text blocks of a message, joined by line ends."""
    return "\n".join(
        block["text"]
        for block in blocks(content)
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
    )
