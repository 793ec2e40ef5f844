"""Where things stand in a JSON text, so that it can be edited without touching a byte of the rest.

Claude compares prompts by their rendered bytes (prompt caching) and binds thinking blocks to them, so a request is never
serialised again: it is cut at an offset and text is put in. msgspec decodes one level and leaves each value as raw bytes;
the only thing left to find is the white space, commas and keys between values.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

import msgspec

_OBJECT_START = re.compile(rb"\s*\{")
_ARRAY_START = re.compile(rb"\s*\[")
_KEY = re.compile(rb'\s*,?\s*"((?:[^"\\]|\\.)*)"\s*:\s*')
_SEPARATOR = re.compile(rb"\s*,?\s*")
_OBJECT_END = re.compile(rb"\s*\}\s*\Z")

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])


def split_object(text: bytes) -> dict[str, msgspec.Raw]:
    """An object's members as raw JSON. Raises msgspec.DecodeError or ValidationError."""
    return _object.decode(text)


def split_array(text: msgspec.Raw | bytes) -> list[msgspec.Raw]:
    """An array's elements as raw JSON. Raises msgspec.DecodeError or ValidationError."""
    return _array.decode(text)


class NotSplicable(ValueError):
    """The text is JSON but not in a form that can be cut safely (a key that stands twice in one object)."""


class Span(NamedTuple):
    """A value's place: ``text[start:end]``."""

    start: int
    end: int


def members(text: bytes, at: Span) -> dict[str, Span]:
    """The members of the object at ``at``. Raises ``NotSplicable`` when a key stands twice."""
    raw = text[at.start : at.end]
    return spans_of_members(raw, _object.decode(raw), at.start)


def spans_of_members(raw: bytes, values: Mapping[str, msgspec.Raw], offset: int = 0) -> dict[str, Span]:
    """The same for an object that is already decoded."""
    return _compact_members(raw, values, offset) or _walk_members(raw, values, offset)


def _compact_members(raw: bytes, values: Mapping[str, msgspec.Raw], offset: int) -> dict[str, Span] | None:
    """Without white space the offsets follow from the lengths alone; and if the lengths add up to the whole, there is no
    white space, no escape in a key and no second key of one name, for each of these would make it longer."""
    spans: dict[str, Span] = {}
    position = 1
    for name, value in values.items():
        start = position + (len(name) if name.isascii() else len(name.encode())) + 3
        position = start + len(memoryview(value))
        spans[name] = Span(offset + start, offset + position)
        position += 1
    return spans if spans and position == len(raw) else None


def _walk_members(raw: bytes, values: Mapping[str, msgspec.Raw], offset: int) -> dict[str, Span]:
    start = _OBJECT_START.match(raw)
    if start is None:
        raise NotSplicable("not an object")
    position = start.end()
    spans: dict[str, Span] = {}
    for name, value in values.items():
        key = _KEY.match(raw, position)
        if key is None:
            raise NotSplicable("an object has the same key twice")
        size = len(memoryview(value))
        spans[name] = Span(offset + key.end(), offset + key.end() + size)
        position = key.end() + size
    if _OBJECT_END.match(raw, position) is None:
        raise NotSplicable("an object has the same key twice")
    return spans


def elements(text: bytes, at: Span) -> list[Span]:
    """The elements of the array at ``at``."""
    raw = text[at.start : at.end]
    sizes = [len(memoryview(value)) for value in _array.decode(raw)]
    return [
        Span(start, start + size) for start, size in zip(starts_of_elements(raw, sizes, at.start), sizes, strict=True)
    ]


def starts_of_elements(raw: bytes, sizes: Sequence[int], offset: int = 0) -> list[int]:
    """Where the elements of an array begin whose lengths are known."""
    if sizes and sum(sizes) + len(sizes) + 1 == len(raw):  # one comma or bracket beside each: no white space
        return list(accumulate((size + 1 for size in sizes[:-1]), initial=offset + 1))
    start = _ARRAY_START.match(raw)
    if start is None:
        raise NotSplicable("not an array")
    position = start.end()
    starts: list[int] = []
    for size in sizes:
        gap = _SEPARATOR.match(raw, position)
        assert gap is not None  # the pattern matches the empty string
        starts.append(offset + gap.end())
        position = gap.end() + size
    return starts


def splice(text: bytes, insertions: Iterable[tuple[int, bytes]]) -> bytes:
    """Put each text in at its offset; several at one offset stand in the order given."""
    pieces: list[bytes] = []
    position = 0
    for offset, piece in sorted(insertions, key=itemgetter(0)):
        pieces += text[position:offset], piece
        position = offset
    pieces.append(text[position:])
    return b"".join(pieces)


class Edit(NamedTuple):
    """What replaces ``text[start:end]``; with both equal it is put in there."""

    start: int
    end: int
    piece: bytes


def edited(text: bytes, edits: Iterable[Edit]) -> bytes:
    """The text with all of these done; none overlaps another, and several at one offset stand in the order given."""
    pieces: list[bytes] = []
    position = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        pieces += [text[position : edit.start], edit.piece]
        position = edit.end
    pieces.append(text[position:])
    return b"".join(pieces)
