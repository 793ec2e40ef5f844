"""States of several owners as one, and a patch of that one as a patch for each owner. Pure.

What is read is all parts laid over each other, the narrowest on top; what a part only has because every state begins with it
does not hide another's. What is written goes to the home of its place, and what else holds something there lets it go, so
that what was written is what is read next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.extraction.provenance import NAME, PLACE
from agentmemory_sidecar.memory.pointer import ABSENT, covers
from agentmemory_sidecar.memory.rebase import split
from agentmemory_sidecar.memory.scopes import ALL, Home, Homes
from agentmemory_sidecar.memory.state import Operation, Patch, PatchError, State, apply_one, diff, same, touches
from agentmemory_sidecar.resource.state_schema import OWN

METADATA = "metadata"
_MOST_TOLD = 10
"""Problems that are told of one patch."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request reads."""

    homes: Homes
    parts: tuple[State, ...]
    """Each home's whole state, ``{}`` for one that was never written or may not be read; with patches laid over it that
    the reader has made and that are not there yet."""
    state: State
    """All of them as one."""
    told: tuple[State, ...]
    """What of each part says something, as far as the request may see it."""


def read(homes: Homes, parts: Sequence[State], beginning: State, withheld: Sequence[str] = ()) -> Reading:
    """The parts as one state. ``beginning`` is what a new state holds; ``withheld`` are places that are not shown to who
    does not belong to their owner."""
    if len(homes.homes) == 1 and homes.homes[0].reads == ALL:
        return Reading(homes, tuple(parts), parts[0], tuple(parts))
    told = tuple(
        _told(home, part, beginning, withheld) if part else {} for home, part in zip(homes.homes, parts, strict=True)
    )
    if not any(parts):
        return Reading(homes, tuple(parts), {}, told)
    state: State = {}
    shared: State = {}
    for home, part in reversed(list(zip(homes.homes, told, strict=True))):
        if not home.at:
            state = _over(state, part)
        elif part:
            shared = apply_one(shared, Operation("set", home.at, part))
    own: Any = parts[homes.rest].get(METADATA, beginning.get(METADATA))
    if learnt := _learnt(homes, parts):
        own = {**own, NAME: learnt}
    state = _over({name: value for name, value in beginning.items() if name != METADATA}, state)
    return Reading(homes, tuple(parts), {METADATA: own, **_over(shared, state)}, told)


def origins(reading: Reading) -> dict[str, str]:
    """Whose what is, by the highest pointers at which all is one owner's: ``project:ID``, ``user:ID``, ``session:ID``."""
    own: list[tuple[Home, Any]] = []
    found: dict[str, str] = {}
    for home, part in zip(reading.homes.homes, reading.told, strict=True):
        if home.at and part:
            found[home.at] = home.owner.owner
        elif part:
            own.append((home, part))
    for name in dict.fromkeys(name for _, part in own for name in part):
        _walk(ptr.join("", name), [(home, part[name]) for home, part in own if name in part], found)
    return found


def origin(place: str, found: Mapping[str, str]) -> str:
    """Whose a place is, as ``origins`` says; empty where it does not know."""
    return next((owner for above, owner in found.items() if covers(above, place)), "")


def shared_out(patch: Patch, reading: Reading) -> tuple[tuple[Patch, ...], tuple[dict[str, str], ...]]:
    """A patch that was made for ``reading.state``, as one for each home; and what in it is nobody's to do for this
    request (``pointer`` and ``problem``), because of which none of it may be done."""
    homes = reading.homes
    shares: list[list[Operation]] = [[] for _ in homes.homes]
    wrong: list[dict[str, str]] = []
    state = reading.state
    told = list(reading.told)
    for operation in (part for whole in patch.operations for part in split(whole)):
        if not _place(operation):
            continue  # a merge of nothing
        place = _reached([part for each, part in zip(homes.homes, told, strict=True) if not each.at], _place(operation))
        at = homes.of(place)
        if at is None:
            wrong.append({"pointer": place, "problem": "nobody shares this place with who wrote it: no grant says so"})
            continue
        home, share = homes.homes[at], shares[at]
        if home.at:
            _below(operation, home, share, wrong)
            continue
        try:
            after = apply_one(state, operation)
        except PatchError:
            # What becomes of it is seen where it lands.
            _allowed([operation], home, share, wrong)
            continue
        strange = any(
            index != at and not other.at and ptr.get(told[index], place) is not ABSENT
            for index, other in enumerate(homes.homes)
        )
        if not strange and not homes.inside(place):
            _allowed([operation], home, share, wrong)
            told[at] = _tried(told[at], operation)
        else:
            for index, each in enumerate(homes.homes):
                if each.at:
                    continue
                before, value = ptr.get(told[index], place), ptr.get(after, place)
                # What it has there beyond its own is left over from a time when this was its home, and goes first.
                left = [] if homes.of(place) == index else _turned(before, _share(homes, index, place, before), place)
                left = [one for one in left if each.may_write(one.pointer)]
                changes = _changes(homes, index, place, before, value)
                shares[index] += left
                _allowed(changes, each, shares[index], wrong)
                for change in (*left, *changes):
                    told[index] = _tried(told[index], change)
        state = after
    patches = tuple(
        Patch(patch.id, patch.source, tuple(operations)) if operations else Patch.none(patch.id)
        for operations in shares
    )
    return patches, tuple(wrong[:_MOST_TOLD])


# ------------------------------------------------------------------------------------------------------------- reading


def _told(home: Home, part: State, beginning: State, withheld: Sequence[str]) -> State:
    part = {name: value for name, value in part.items() if name != METADATA}
    if home.reads != ALL:
        part = _only(part, home.reads)
    if home.at:
        for place in (*(f"/{own}" for own in OWN), *withheld):
            part = _tried(part, Operation("remove", place)) if place else {}
    return _without(part, beginning)


def _learnt(homes: Homes, parts: Sequence[State]) -> State:
    """Where the facts of the request's own parts came from."""
    found: State = {}
    for home, part in zip(homes.homes, parts, strict=True):
        notes = ptr.get(part, PLACE)
        if not home.at and home.reads == ALL and isinstance(notes, dict):
            found = {**notes, **found}
    return found


def _without(state: State, beginning: State) -> State:
    """The state without what it holds only because it began so."""
    kept = state
    for name, value in beginning.items():
        if name not in state:
            continue
        there = state[name]
        left = _without(there, value) if isinstance(there, dict) and isinstance(value, dict) else there
        if same(there, value) or (left == {} and left is not there):
            kept = {other: kept[other] for other in kept if other != name}
        elif left is not there:
            kept = {**kept, name: left}
    return kept


def _over(wide: State, narrow: State) -> State:
    """The one laid over the other."""
    if not wide or not narrow:
        return narrow or wide
    return wide | {
        name: _over(wide[name], value) if isinstance(value, dict) and isinstance(wide.get(name), dict) else value
        for name, value in narrow.items()
    }


def _walk(place: str, having: Sequence[tuple[Home, Any]], found: dict[str, str]) -> None:
    first, value = having[0]
    if len(having) == 1 or not isinstance(value, dict):
        found[place] = first.owner.owner
        return
    dicts = [(home, part) for home, part in having if isinstance(part, dict)]
    for name in dict.fromkeys(name for _, part in dicts for name in part):
        _walk(ptr.join(place, name), [(home, part[name]) for home, part in dicts if name in part], found)


def _only(state: State, places: Sequence[str]) -> State:
    """What of a state lies at these places."""
    kept: State = {}
    for place in places:
        value = ptr.get(state, place)
        if place == "":
            return state
        if value is not ABSENT:
            kept = _tried(kept, Operation("set", place, value))
    return kept


def _tried(state: State, operation: Operation) -> State:
    try:
        return apply_one(state, operation)
    except PatchError:
        return state


# ------------------------------------------------------------------------------------------------------------- writing


def _place(operation: Operation) -> str:
    return operation.pointer if operation.op != "merge" else touches(operation)[0]


def _reached(parts: Sequence[State], place: str) -> str:
    """The place, or the one above it beyond which a part has no members: a list is one owner's as a whole, and a null may
    hide what lies there in another part."""
    above = ""
    for token in ptr.parse(place):
        if any(not isinstance(ptr.get(part, above), dict) and ptr.get(part, above) is not ABSENT for part in parts):
            return above
        above = ptr.join(above, token)
    return place


def _below(operation: Operation, home: Home, share: list[Operation], wrong: list[dict[str, str]]) -> None:
    """An operation on what another owner shares, for that owner's own state."""
    if operation.op == "merge":
        place = touches(operation)[0]
        leaf: Any = operation.value
        for token in ptr.parse(place)[len(ptr.parse(operation.pointer)) :]:
            leaf = leaf[token]
        operation = Operation("remove", place) if leaf is None else Operation("merge", place, leaf)
    moved = Operation(operation.op, operation.pointer.removeprefix(home.at), operation.value)
    if not moved.pointer:
        wrong.append({"pointer": home.at, "problem": "is all that is shared: name a place in it"})
        return
    _allowed([moved], home, share, wrong)


def _allowed(operations: Sequence[Operation], home: Home, share: list[Operation], wrong: list[dict[str, str]]) -> None:
    wrong += [
        {"pointer": home.at + place, "problem": f"no grant lets its writer change this of the {home.kind}'s"}
        for operation in operations
        for place in touches(operation)
        if not home.may_write(place)
    ]
    share += operations


def _changes(homes: Homes, index: int, place: str, before: Any, after: Any) -> list[Operation]:
    """What a home needs at a place so that it holds what of ``after`` is at home there."""
    if homes.of(place) == index:
        return _turned(before, _share(homes, index, place, after), place)
    within = [(pointer, pointer.removeprefix(place)) for at, pointer in homes.inside(place) if at == index]
    return [
        change
        for pointer, inner in within
        for change in _turned(ptr.get(before, inner), ptr.get(after, inner), pointer)
    ]


def _turned(before: Any, after: Any, place: str) -> list[Operation]:
    """What makes the one of the other."""
    if after is ABSENT:
        return [] if before is ABSENT else [Operation("remove", place)]
    if before is ABSENT:
        return [Operation("set", place, after)]
    return list(diff(before, after, place))


def _share(homes: Homes, index: int, place: str, value: Any) -> Any:
    """What of a value at a place is at home in one of the homes."""
    if value is ABSENT:
        return ABSENT
    inner = homes.inside(place)
    if homes.of(place) == index:
        for _, pointer in inner:
            value = _cut(value, ptr.parse(pointer.removeprefix(place)))
        return value
    found: Any = ABSENT
    for at, pointer in inner:
        part = ptr.get(value, pointer.removeprefix(place))
        if at == index and part is not ABSENT:
            within = pointer.removeprefix(place)
            found = _tried({} if found is ABSENT else found, Operation("set", within, part))
    return found


def _cut(value: Any, tokens: Sequence[str]) -> Any:
    if not isinstance(value, dict) or not tokens or tokens[0] not in value:
        return value
    if len(tokens) == 1:
        return {name: inner for name, inner in value.items() if name != tokens[0]}
    return {**value, tokens[0]: _cut(value[tokens[0]], tokens[1:])}
