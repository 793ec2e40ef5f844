"""Conflicts as people look at them: what was kept beside the state because two writers met at one place."""

from typing import Any

import msgspec

from agentmemory_sidecar.memory import heads
from agentmemory_sidecar.memory.heads import Side
from agentmemory_sidecar.memory.item import Conflict, Item


def listed(item: Item, head: str) -> list[dict[str, Any]]:
    """Each with an id to settle it by: those between regions, then those between this region's own writers."""
    between = [
        {"id": clash.id, "pointer": clash.pointer, "stands": _shown(clash.stands), "other": _shown(clash.other)}
        for clash in item.clashes
    ]
    return between + [_kept(conflict, head) for conflict in item.conflicts]


def settle(item: Item, head: str, names: set[str]) -> set[str]:
    """Take conflicts out of the item; returns the ids that are none of its conflicts."""
    between = {clash.id for clash in item.clashes} & names
    if between and item.head is not None:
        item.head = heads.resolve(item.head, sorted(between))
        item.clashes = tuple(clash for clash in item.clashes if clash.id not in between)
    own = {_id(conflict, head) for conflict in item.conflicts}
    item.conflicts = [conflict for conflict in item.conflicts if _id(conflict, head) not in names]
    return names - between - own


def _shown(side: Side) -> dict[str, Any]:
    return {"region": side.region, "step": side.step, "op": side.operation.op, "value": side.operation.value}


def _id(conflict: Conflict, head: str) -> str:
    return f"{head}.{conflict.at_version}:{conflict.source}".replace("\x1f", "/")


def _kept(conflict: Conflict, head: str) -> dict[str, Any]:
    return {
        "id": _id(conflict, head),
        "source": conflict.source.replace("\x1f", "/"),
        "version": conflict.at_version,
        "operations": msgspec.json.decode(conflict.operations),
    }
