"""The state as facts: what can go into a prompt, or stay out of it, by itself."""

import hashlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec

from agentmemory_sidecar.memory import links
from agentmemory_sidecar.memory import pointer as ptr

TEXT_LIMIT = 1_200
"""Characters of one value that a prompt shows; all of it is searched."""
_RECORD_CHARACTERS = 600
_RECORD_MEMBERS = 8
_MAIN = ("text", "fact", "content", "value", "note", "summary", "subject", "description")
"""Members of a record that need no name in front: they are what it says."""
_TIMES = ("time", "date", "when", "at", "timestamp", "created_at", "updated_at", "session_time")
_SKIPPED = ("/metadata",)
"""The sidecar's own bookkeeping, no knowledge."""

_encode = msgspec.json.Encoder(order="sorted").encode


class RawFact(msgspec.Struct, frozen=True):
    """A fact before anybody asked for it."""

    pointer: str
    text: str
    """What is shown."""
    hash: str
    time: str = ""
    """When it was learnt or happened, as the state has it; part of ``text`` too."""
    full: str = ""
    """What is searched, where that is more than ``text``."""

    @property
    def searched(self) -> str:
        return self.full or self.text


def facts_of(state: Mapping[str, Any], pinned: Sequence[str] = (), never: Sequence[str] = ()) -> list[RawFact]:
    """All facts in the state's own order. A part that is pinned or never told is not mixed with others."""
    found: list[RawFact] = []
    _walk("", state, {*_SKIPPED, *never}, (*_SKIPPED, *never, *pinned), found)
    return found


def value_hash(value: Any) -> str:
    """64 bits of the value's canonical JSON, as 16 hex digits."""
    return hashlib.blake2b(_encode(value), digest_size=8).hexdigest()


def _walk(place: str, value: Any, closed: Set[str], apart: Sequence[str], found: list[RawFact]) -> None:
    if place in closed:  # what lies inside is not come to
        return
    if isinstance(value, dict) and not links.is_link(value):
        if _is_record(place, value) and not any(ptr.covers(place, inner) and inner != place for inner in apart):
            record = _record(place, value)
            if record.text.strip():
                found.append(record)
            return
        for name, inner in value.items():
            _walk(ptr.join(place, name), inner, closed, apart, found)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            _walk(f"{place}/{at}", inner, closed, apart, found)
    elif value is not None and value != "":
        text = _shown(value)
        if text.strip():
            found.append(RawFact(place, _cut(text), value_hash(value), "", text if len(text) > TEXT_LIMIT else ""))


def _is_record(place: str, value: dict[str, Any]) -> bool:
    """Whether an object is small enough to be one fact. The top two levels are sections, not records."""
    if place.count("/") < 2 or not 0 < len(value) <= _RECORD_MEMBERS:
        return False
    size = 0
    for name, inner in value.items():
        if isinstance(inner, list) and len(inner) <= 8 and all(isinstance(one, str | int | float) for one in inner):
            size += sum(len(str(one)) + 2 for one in inner)
        elif isinstance(inner, dict | list):
            return False
        else:
            size += len(inner) if isinstance(inner, str) else 8
        size += len(name)
    return size <= _RECORD_CHARACTERS


def _record(place: str, value: dict[str, Any]) -> RawFact:
    main = [_shown(value[name]) for name in _MAIN if isinstance(value.get(name), str) and value[name]][:1]
    told = next((name for name in _MAIN if isinstance(value.get(name), str) and value[name]), "")
    time = next((_shown(value[name]) for name in _TIMES if isinstance(value.get(name), str | int)), "")
    timed = next((name for name in _TIMES if isinstance(value.get(name), str | int)), "")
    rest = [
        f"{name}: {_shown(inner)}"
        for name, inner in value.items()
        if name not in (told, timed) and inner is not None and inner not in ("", [])
    ]
    text = "; ".join([*main, *rest])
    if time:
        text = f"{text} ({time})" if text else time
    return RawFact(place, _cut(text), value_hash(value), time)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if links.is_link(value):
        inner = value[links.LINK]
        return f"{inner.get('summary', '')}… ({inner.get('size', 0)} bytes in all)"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return msgspec.json.encode(value).decode()


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
