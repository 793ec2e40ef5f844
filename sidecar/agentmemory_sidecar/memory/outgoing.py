"""Patches on their way to a state that others write too: what was seen when they were made, and what becomes of them there.

A patch is recorded with the commit of the conversation that made it and lands later, perhaps after another's. Where a
place is not any more as its maker saw it, the patch is not applied there but kept as a conflict; elements that are added to
a list, and places whose later write is declared to win, land whatever came before.
"""

import hashlib

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.heads import ADDING, Strategies, additive, strategy_of
from agentmemory_sidecar.memory.item import OutgoingPatch
from agentmemory_sidecar.memory.rebase import Clash, Conflict, Rebased, split
from agentmemory_sidecar.memory.state import (
    Operation,
    Patch,
    PatchError,
    State,
    apply_one,
    conflicts,
    decode_patch,
    encode_patch,
    same,
    touched,
    touches,
)
from agentmemory_sidecar.resource.state import MergeStrategy

_DIGEST = 8
"""Bytes that tell two values of one place apart."""


def prepare(
    seq: int, session: str, agent: str, patch: Patch, state: State, strategies: Strategies, *, version: str = ""
) -> OutgoingPatch:
    """A patch that was made for ``state`` of the conversation (session, agent), as it travels, by who knows the form of
    this version."""
    parts = [additive(part, state, strategies) for whole in patch.operations for part in split(whole)]
    seen = {
        place: _digest(state, place)
        for part in parts
        if part.op not in ADDING
        for place in touches(part)
        if strategy_of(place, strategies) is not MergeStrategy.LATEST
    }
    data = encode_patch(msgspec.structs.replace(patch, operations=tuple(parts)))
    return OutgoingPatch(seq, agent, data, session, seen, version)


def land(newer: State, outgoing: OutgoingPatch, *, theirs: str = "") -> Rebased:
    """Apply a patch to the state as it is now. Every operation is either applied or in the conflict. Never raises."""
    patch = decode_patch(outgoing.patch)
    state = newer
    applied: list[Operation] = []
    clashes: list[Clash] = []
    for operation in patch.operations:
        places = touches(operation)
        moved = any(place in outgoing.seen and outgoing.seen[place] != _digest(newer, place) for place in places)
        blocked = conflicts(places, touched(Patch("", operations=tuple(clash.ours for clash in clashes))))
        if not blocked:
            try:
                after = apply_one(state, operation)
            except PatchError:
                pass
            else:
                if not moved or same(after, state):
                    state = after
                    applied.append(operation)
                    continue
        found = ptr.get(newer, places[0])
        clashes.append(Clash(places[0], operation, None, None if found is ptr.ABSENT else found))
    conflict = None
    if clashes:
        kept = tuple(clash.ours for clash in clashes)
        conflict = Conflict(msgspec.structs.replace(patch, operations=kept), theirs, tuple(clashes))
    return Rebased(state, msgspec.structs.replace(patch, operations=tuple(applied)), conflict)


def _digest(state: State, place: str) -> bytes:
    value = ptr.get(state, place)
    data = b"" if value is ptr.ABSENT else msgspec.json.encode(value, order="sorted")
    return hashlib.sha256(data).digest()[:_DIGEST]
