"""Messages as the API compares them, and the chain of hashes over them that keys the ledger.

Not compared (facts on preserved thinking, and runs with real clients): ``cache_control``, key order, a string against a
single text block (at the top level and inside a ``tool_result``), white space around text, blocks of white space only,
members that are null, ``is_error: false``. Consecutive messages of one role are merged by the API, so the chain runs over
(role, block) and not over messages.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

SEED = ""
"""The mark before the first block."""

_encode = msgspec.json.Encoder(order="sorted").encode


def canonical(value: Any) -> Any:
    """A block, a tool or a system prompt without what the API does not compare."""
    if isinstance(value, dict):
        # Most members are text or numbers: a call for each of them was most of what a tool's input cost here.
        kept = {
            k: canonical(v) if type(v) is dict or type(v) is list else v
            for k, v in value.items()
            if v is not None and k != "cache_control"
        }
        kind = kept.get("type")
        if kind == "text" and isinstance(kept.get("text"), str):
            kept["text"] = kept["text"].strip()
        elif kind == "tool_result":
            if "content" in value:
                content = kept.get("content")
                whole = blocks(content.strip() if isinstance(content, str) else content)
                kept["content"] = [block for block in whole if not is_blank(block)]
            if kept.get("is_error") is False:
                del kept["is_error"]
        return kept
    if isinstance(value, list):
        return [canonical(element) for element in value]
    return value


def blocks(content: Any) -> list[Any]:
    """Content as a list of blocks, whichever of its two forms it has."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def is_blank(block: Any) -> bool:
    """A text block of white space only: the API drops it."""
    return (
        isinstance(block, dict)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
        and not block["text"].strip()
    )


@dataclass(frozen=True, slots=True)
class Chain:
    """The marks of a list of messages: ``marks[i][k]`` is the hash of everything up to block ``k`` of message ``i``."""

    base: str
    marks: Sequence[Sequence[str]]
    places: Mapping[str, tuple[int, int]]
    """The last place, (message, block), of each mark; in the order of their first ones."""
    last: str
    """The mark behind all of them."""

    def end(self, index: int) -> str:
        """The mark behind message ``index``; the base for -1. A message without blocks leaves the mark as it was."""
        while index >= 0:
            if self.marks[index]:
                return self.marks[index][-1]
            index -= 1
        return self.base

    def continued(self, messages: Iterable[tuple[bytes, ...]]) -> "Chain":
        """The chain with more messages behind its last."""
        rows = list(self.marks)
        places = dict(self.places)
        mark = self.last
        for digests in messages:
            row = extend(mark, digests)
            for k, mark in enumerate(row):
                places[mark] = (len(rows), k)
            rows.append(row)
        return Chain(self.base, rows, places, mark)

    def find(self, mark: str) -> tuple[int, int] | None:
        """The last place, (message, block), that carries this mark."""
        return self.places.get(mark)


NO_CHAIN = Chain(SEED, (), {}, SEED)
"""That of no messages."""


def block_digests(role: str, content: Any) -> tuple[bytes, ...]:
    """The digest of each block of a message, in its role; empty for a blank block, which is not compared."""
    return tuple([_block_digest(role, block) for block in blocks(content)])


def _block_digest(role: str, block: Any) -> bytes:
    if type(block) is dict and len(block) == 2 and block.get("type") == "text" and type(block.get("text")) is str:
        # Most blocks are just text: what ``canonical`` would make of it, without its questions.
        text = block["text"].strip()
        if not text:
            return b""
        plain: Any = {"type": "text", "text": text}
    elif is_blank(block):
        return b""
    else:
        plain = canonical(block)
    return hashlib.blake2b(_encode([role, plain]), digest_size=20).digest()


@lru_cache(maxsize=1_024)
def extend(mark: str, digests: tuple[bytes, ...]) -> tuple[str, ...]:
    """The marks behind each block of one message that follows ``mark``. Remembered: a conversation comes whole each time."""
    row: list[str] = []
    for one in digests:
        if one:
            mark = hashlib.blake2b(mark.encode() + one, digest_size=20).hexdigest()
        row.append(mark)
    return tuple(row)


def chain(messages: Iterable[tuple[bytes, ...]], base: str = SEED) -> Chain:
    """Chain the block digests of messages from ``base`` on."""
    mark = base
    rows: list[Sequence[str]] = []
    for digests in messages:
        row = extend(mark, digests)
        rows.append(row)
        if row:
            mark = row[-1]
    places = {at: (i, k) for i, row in enumerate(rows) for k, at in enumerate(row)}
    return Chain(base, rows, places, mark)


def digest(value: Any) -> str:
    """The hash of a system prompt or a list of tools, as compared."""
    if isinstance(value, str):
        value = blocks(value)
    return hashlib.blake2b(_encode(canonical(value)), digest_size=20).hexdigest()
