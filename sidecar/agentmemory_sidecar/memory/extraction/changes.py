"""What a model wants to change, made into what is changed: a JSON Merge Patch of what it may write, and a reason for
all else.

A model reads what strangers wrote, so it is not believed: it writes where the resource lets it, short plain values, and
never over something that it was not shown the whole of.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from agentmemory_sidecar.memory import links
from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.extraction import provenance
from agentmemory_sidecar.memory.fence import is_injected, safe
from agentmemory_sidecar.memory.form import Form
from agentmemory_sidecar.memory.state import Operation, State, apply_one, same
from agentmemory_sidecar.resource.state_schema import OWN

SOURCE = "extraction"
MOST_CHANGES = 100
"""Changes that are taken of one answer."""
LONGEST = 1_000
"""Characters of a text."""
LONGEST_LIST = 100
"""Elements of a list."""
LONGEST_NAME = 64
DEEPEST = 8
"""Tokens of a pointer."""

Confidence = Literal["high", "medium", "low"]


class Change(msgspec.Struct, frozen=True):
    """One change that the model wants."""

    pointer: str
    value: str | int | float | bool | list[str] | None
    turn: int
    """Which of the turns it was told, from 1."""
    confidence: Confidence


class Answer(msgspec.Struct, frozen=True):
    """All that it wants."""

    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a model may write."""

    writes: tuple[str, ...]
    closed: tuple[str, ...]
    """What lies within that and is closed to it all the same."""


@dataclass(slots=True)
class Allowed:
    """What is changed."""

    changes: list[Change] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    """What is not: ``pointer``, ``problem`` and ``rule``, a word for a metric. No value is quoted."""

    def refuse(self, pointer: str, rule: str, problem: str) -> None:
        self.refused.append({"pointer": pointer[:200], "problem": problem, "rule": rule})


def terms_of(writes: Sequence[str], pinned: Sequence[str], never: Sequence[str]) -> Terms:
    """Pinned fields and those that no prompt shows are closed, unless the resource names them, or what lies in them,
    itself."""
    closed = [
        place
        for place in dict.fromkeys((*(f"/{name}" for name in OWN), *pinned, *never))
        if not any(ptr.covers(place, write) for write in writes)
    ]
    return Terms(tuple(writes), tuple(closed))


def allowed(changes: Iterable[Change], state: State, terms: Terms) -> Allowed:
    """Those of the changes that are made to ``state``, with their places and values as they are written. What would change
    nothing is left out."""
    found = Allowed()
    for number, wanted in enumerate(changes):
        if number == MOST_CHANGES:
            found.refuse("", "too_many", f"more than {MOST_CHANGES} changes at once")
            break
        if (wrong := _bad_pointer(wanted.pointer)) or (wrong := _bad_value(wanted.value)):
            found.refuse(_plain(wanted.pointer), "form", wrong)
            continue
        place = _known_name(state, wanted.pointer)
        if wrong := _closed(place, terms):
            found.refuse(place, "closed", wrong)
        elif wrong := _bad_place(state, place, wanted, terms):
            found.refuse(place, "place", wrong)
        elif any(ptr.overlap(place, other.pointer) and place != other.pointer for other in found.changes):
            found.refuse(place, "place", "lies in another change's place, or that in this one's")
        else:
            found.changes = [other for other in found.changes if other.pointer != place]
            change = msgspec.structs.replace(wanted, pointer=place, value=_written(wanted.value))
            if _changes(state, change):
                found.changes.append(change)
    return found


def fitting(found: Allowed, state: State, form: Form) -> tuple[Allowed, list[Operation], tuple[dict[str, str], ...]]:
    """Those that the declared form takes: all together, or else each for which that is so by itself. Also the operations of
    the others, with what would not have fitted."""
    if not form.refusal(state, applied(state, found.changes)):
        return found, [], ()
    kept = Allowed(refused=list(found.refused))
    misfits: list[Operation] = []
    wrong: list[dict[str, str]] = []
    for change in found.changes:
        after = applied(state, [change])
        if problems := form.refusal(state, after):
            misfits.append(Operation("merge", "", merge_patch([change])))
            wrong += problems
            kept.refuse(change.pointer, "schema", problems[0]["problem"])
        else:
            kept.changes.append(change)
            state = after
    return kept, misfits, tuple(wrong)


def merge_patch(changes: Iterable[Change]) -> dict[str, Any]:
    """The changes as one JSON Merge Patch (RFC 7396)."""
    patch: dict[str, Any] = {}
    for change in changes:
        *path, name = ptr.parse(change.pointer)
        node = patch
        for token in path:
            node = node.setdefault(token, {})
        node[name] = change.value
    return patch


def applied(state: State, changes: Sequence[Change]) -> State:
    return apply_one(state, Operation("merge", "", merge_patch(changes))) if changes else state


def sources(changes: Iterable[Change], turns: Sequence[tuple[str, float]]) -> dict[str, provenance.Note]:
    """Where each change came from, by its place. ``turns`` are the ids and ends of those that the model was told; a change
    that names none of them is said to be from the last."""
    found = {}
    for change in changes:
        number = change.turn if 1 <= change.turn <= len(turns) else len(turns)
        turn, at = turns[number - 1]
        found[change.pointer] = provenance.Note(change.pointer, turn, at, change.confidence)
    return found


def _bad_pointer(pointer: str) -> str:
    try:
        tokens = ptr.parse(pointer)
    except ValueError:
        return "is no JSON pointer"
    if not 1 < len(tokens) <= DEEPEST:
        return f"has not between 2 and {DEEPEST} names"
    if any(not token.strip() or len(token) > LONGEST_NAME or safe(token) != token for token in tokens):
        return f"has a name that is empty, longer than {LONGEST_NAME} characters, or holds what a name does not"
    return ""


def _bad_value(value: Any) -> str:
    if isinstance(value, list):
        if len(value) > LONGEST_LIST:
            return f"has more than {LONGEST_LIST} elements"
        return next((wrong for wrong in map(_bad_value, value) if wrong), "")
    if not isinstance(value, str):
        return ""
    if not value.strip():
        return "is empty: null takes a note out"
    if len(value) > LONGEST:
        return f"has more than {LONGEST} characters"
    if is_injected(value) or safe(_one_line(value)) != _one_line(value):
        return "holds a fence, or characters that nobody sees"
    return ""


def _closed(place: str, terms: Terms) -> str:
    if not any(ptr.covers(write, place) for write in terms.writes):
        return "lies outside of what the model may write"
    if any(ptr.overlap(place, closed) for closed in terms.closed):
        return "is pinned, kept out of prompts, or the sidecar's own"
    return ""


def _bad_place(state: State, place: str, wanted: Change, terms: Terms) -> str:
    tokens = ptr.parse(place)
    for depth in range(1, len(tokens)):
        inside = ptr.get(state, ptr.build(tokens[:depth]))
        if inside is not None and inside is not ptr.ABSENT and (not isinstance(inside, dict) or links.is_link(inside)):
            return "lies in a list or a value: only all of that can be replaced"
    there = ptr.get(state, place)
    if isinstance(there, dict) and not links.is_link(there):
        if wanted.value is not None or place in terms.writes:
            return "is an object: only what is in it can be replaced"
        return ""
    if isinstance(there, list) and not all(isinstance(one, str) for one in there):
        return "is a list of more than texts"
    if wanted.confidence == "low" and there is not ptr.ABSENT and there is not None:
        return "is known, and the model is not sure"
    return ""


def _changes(state: State, change: Change) -> bool:
    there = ptr.get(state, change.pointer)
    if change.value is None:
        return there is not ptr.ABSENT
    return there is ptr.ABSENT or not same(there, change.value)


def _known_name(state: State, pointer: str) -> str:
    """The pointer with names as they are known: ``homeTown`` is ``home_town`` where that is there."""
    place, node = "", state
    for token in ptr.parse(pointer):
        if isinstance(node, Mapping) and token not in node:
            token = next((name for name in node if _bare(name) == _bare(token)), token)
        place = ptr.join(place, token)
        found = node.get(token) if isinstance(node, Mapping) else None
        node = found if isinstance(found, dict) else {}
    return place


def _bare(name: str) -> str:
    bare = "".join(character for character in name.casefold() if character.isalnum())
    return bare or name


def _written(value: Any) -> Any:
    if isinstance(value, list):
        return list(dict.fromkeys(map(_one_line, value)))
    return _one_line(value) if isinstance(value, str) else value


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(pointer: str) -> str:
    """A pointer that was refused, as a record may show it."""
    return safe(pointer[:200])
