"""Where facts came from: turn, time and how sure the model was, kept beside the facts in the state.

They lie in ``/metadata/provenance``, by the fact's pointer, as ``[turn, time, confidence, digest of the value]``. So
they are merged, carried and erased as the facts are; no prompt, rule, schema or migration reaches them there. The
digest tells whether the fact is still the one that was noted: whoever writes a fact over need not know of its note.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.state import Operation, State

NAME = "provenance"
PLACE = f"/metadata/{NAME}"
MOST = 200
"""Notes that a state keeps, some 100 bytes each; the oldest go first. All are in the archive."""
_DIGEST = 6


class Note(NamedTuple):
    """Where one fact came from."""

    pointer: str
    turn: str
    at: float
    """When its turn ended (seconds since the epoch)."""
    confidence: str


def notes(state: State) -> list[Note]:
    """The notes of facts that are still as they were learnt, oldest first."""
    found = [
        Note(place, str(note[0]), float(note[1]), str(note[2]))
        for place, note in _noted(state)
        if _digest(ptr.get(state, place)) == note[3]
    ]
    return sorted(found, key=lambda note: note.at)


def confidence_of(state: State, place: str) -> str:
    """How sure a model was of what stands there; empty where nobody knows, or somebody else wrote it."""
    return next((note.confidence for note in notes(state) if note.pointer == place), "")


def noting(state: State, learnt: Iterable[Note]) -> Operation | None:
    """What notes where facts came from, to be applied to the state that has them already; None for nothing. Notes that
    became void go with it."""
    fresh = {note.pointer: note for note in learnt}
    members: dict[str, Any] = {
        place: None for place, note in _noted(state) if _digest(ptr.get(state, place)) != note[3]
    }
    for place, note in fresh.items():
        value = ptr.get(state, place)
        if value is not ptr.ABSENT:
            members[place] = [note.turn, note.at, note.confidence, _digest(value)]
    kept = [note for note in notes(state) if note.pointer not in members]
    for note in kept[: max(0, len(kept) + len(fresh) - MOST)]:
        members[note.pointer] = None
    return Operation("merge", PLACE, members) if members else None


def shown(state: State) -> list[dict[str, Any]]:
    """The notes as people look at them."""
    return [note._asdict() for note in notes(state)]


def without(state: State) -> State:
    """The state without its notes."""
    metadata = state.get("metadata")
    if not isinstance(metadata, dict) or NAME not in metadata:
        return state
    return {**state, "metadata": {name: value for name, value in metadata.items() if name != NAME}}


def _noted(state: State) -> Iterator[tuple[str, list[Any]]]:
    found = ptr.get(state, PLACE)
    for place, note in found.items() if isinstance(found, dict) else ():
        if _is_pointer(place) and isinstance(note, list) and len(note) == 4 and isinstance(note[1], int | float):
            yield place, note


def _is_pointer(place: str) -> bool:
    try:
        return bool(ptr.parse(place))
    except ValueError:
        return False


def _digest(value: Any) -> str:
    if value is ptr.ABSENT:
        return ""
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=_DIGEST).hexdigest()
