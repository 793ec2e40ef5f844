"""Where things stand in a JSON text, so that it can be edited without touching a byte of the rest.

Claude compares prompts by their rendered bytes (prompt caching) and binds thinking blocks to them, so a request is never
serialised again: it is cut at an offset and text is put in. msgspec decodes one level and leaves each value as raw bytes;
the only thing left to find is the white space, commas and keys between values.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

_OBJECT_START = re.compile(rb"\s*\{")
_ARRAY_START = re.compile(rb"\s*\[")
_KEY = re.compile(rb'\s*,?\s*"((?:[^"\\]|\\.)*)"\s*:\s*')
_SEPARATOR = re.compile(rb"\s*,?\s*")
_OBJECT_END = re.compile(rb"\s*\}\s*\Z")

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])


class NotSplicable(ValueError):
    """The text is JSON but not in a form that can be cut safely (a key that stands twice in one object)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A value's place: ``text[start:end]``."""

    start: int
    end: int


def members(text: bytes, at: Span) -> dict[str, Span]:
    """The members of the object at ``at``. Raises ``NotSplicable`` when a key stands twice."""
    raw = text[at.start : at.end]
    values = _object.decode(raw)
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
        spans[name] = Span(at.start + key.end(), at.start + key.end() + size)
        position = key.end() + size
    if _OBJECT_END.match(raw, position) is None:
        raise NotSplicable("an object has the same key twice")
    return spans


def elements(text: bytes, at: Span) -> list[Span]:
    """The elements of the array at ``at``."""
    raw = text[at.start : at.end]
    start = _ARRAY_START.match(raw)
    if start is None:
        raise NotSplicable("not an array")
    position = start.end()
    spans: list[Span] = []
    for value in _array.decode(raw):
        gap = _SEPARATOR.match(raw, position)
        assert gap is not None  # the pattern matches the empty string
        size = len(memoryview(value))
        spans.append(Span(at.start + gap.end(), at.start + gap.end() + size))
        position = gap.end() + size
    return spans


def splice(text: bytes, insertions: Iterable[tuple[int, bytes]]) -> bytes:
    """Put each text in at its offset; several at one offset stand in the order given."""
    pieces: list[bytes] = []
    position = 0
    ordered: Sequence[tuple[int, bytes]] = sorted(insertions, key=lambda insertion: insertion[0])
    for offset, piece in ordered:
        pieces.append(text[position:offset])
        pieces.append(piece)
        position = offset
    pieces.append(text[position:])
    return b"".join(pieces)
