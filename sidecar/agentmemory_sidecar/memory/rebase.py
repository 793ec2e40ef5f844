"""What becomes of a patch when only the item's ``version`` moved: another writer changed the state in the meantime."""

from typing import Any, NamedTuple

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.state import (
    Operation,
    Patch,
    PatchError,
    State,
    apply_one,
    conflicts,
    diff,
    leaves,
    same,
    touched,
    touches,
)


class Clash(msgspec.Struct, frozen=True):
    """One operation that was not applied. ``base`` and ``theirs`` are null where nothing was there."""

    pointer: str
    ours: Operation
    base: Any = None
    theirs: Any = None


class Conflict(msgspec.Struct, frozen=True):
    """What was not applied, kept to be shown and decided by a person."""

    patch: Patch
    """Ours, reduced to the operations that were not applied."""
    theirs: str
    """Who wrote the newer state, as far as it is known."""
    clashes: tuple[Clash, ...]


class Rebased(NamedTuple):
    """The newer state with what could be applied, and the patch in its two parts. Merges are split into their leaves."""

    state: State
    applied: Patch
    conflict: Conflict | None

    def conflict_json(self) -> bytes:
        """The conflict as it is kept in the item; empty for none."""
        return msgspec.json.encode(self.conflict) if self.conflict else b""


def rebase(base: State, newer: State, patch: Patch, *, theirs: str = "") -> Rebased:
    """Apply to ``newer`` what was made for ``base``, where it touches nothing that changed between the two.

    Every operation is either applied or in the conflict, in its order; one that builds upon an operation in the conflict
    goes there with it. One whose result stands in ``newer`` already counts as applied. Never raises.
    """
    changed = {pointer for operation in diff(base, newer) for pointer in touches(operation)}
    state = newer
    applied: list[Operation] = []
    clashes: list[Clash] = []
    for operation in (part for whole in patch.operations for part in split(whole)):
        ours = touches(operation)
        blocked = conflicts(ours, touched(Patch("", operations=tuple(clash.ours for clash in clashes))))
        if not blocked and (not conflicts(ours, changed) or _stands(state, operation)):
            try:
                state = apply_one(state, operation)
            except PatchError:
                pass
            else:
                applied.append(operation)
                continue
        place = operation.pointer if operation.op != "merge" else ours[0]
        clashes.append(Clash(place, operation, _found(base, place), _found(newer, place)))
    conflict = None
    if clashes:
        kept = tuple(clash.ours for clash in clashes)
        conflict = Conflict(msgspec.structs.replace(patch, operations=kept), theirs, tuple(clashes))
    return Rebased(state, msgspec.structs.replace(patch, operations=tuple(applied)), conflict)


def split(operation: Operation) -> list[Operation]:
    """A merge as one merge for each leaf, so that a clash holds back no more than itself."""
    if operation.op != "merge" or not isinstance(operation.value, dict):
        return [operation]
    depth = len(ptr.parse(operation.pointer))
    parts = []
    for place, leaf in leaves(operation.value, operation.pointer):
        nested = leaf
        for token in reversed(ptr.parse(place)[depth:]):
            nested = {token: nested}
        parts.append(Operation("merge", operation.pointer, nested))
    return parts


def _stands(state: State, operation: Operation) -> bool:
    """Whether the operation would change nothing. An append never stands: the same element may be meant twice."""
    if operation.op == "append":
        return False
    try:
        return same(apply_one(state, operation), state)
    except PatchError:
        return False


def _found(state: State, place: str) -> Any:
    value = ptr.get(state, place)
    return None if value is ptr.ABSENT else value
