"""Who should own which slots, and how they get there: a few at a time, with their keys, whoever crashes meanwhile."""

from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.redis.values import (
    SLOTS,
    Decision,
    MoveSlots,
    NodeAction,
    Pod,
    SettleSlots,
    ranges_of,
)
from agentmemory_operator.plan.redis.view import View, node

AT_ONCE = 256
"""Slots in one action."""
PER_LOOK = 512
"""Slots between two looks at the cluster."""


def close(view: View) -> Decision | None:
    """Finish what an interrupted move left open. Always forwards: keys that have moved are at the other end."""
    moves: dict[tuple[str, str], set[int]] = {}
    settled: dict[tuple[str, str], set[int]] = {}
    for pod in view.pods:
        me = node(pod)
        if not me.is_primary:
            continue
        for slot, ident in me.migrating.items():
            owner, target = view.owner.get(slot), _primary_for(view, ident)
            if owner is not None and owner is not pod:
                settled.setdefault((pod.name, node(owner).id), set()).add(slot)
            elif target is not None and target is not pod:
                moves.setdefault((pod.name, target.name), set()).add(slot)
            else:
                settled.setdefault((pod.name, me.id), set()).add(slot)
        for slot in me.importing:
            owner = view.owner.get(slot)
            if owner is pod:
                settled.setdefault((pod.name, me.id), set()).add(slot)
            elif owner is not None and slot not in node(owner).migrating:
                moves.setdefault((owner.name, pod.name), set()).add(slot)
    region = view.cluster.region
    actions: list[NodeAction] = [
        SettleSlots(region, pod, ranges_of(slots), owner) for (pod, owner), slots in sorted(settled.items())
    ]
    actions += [
        MoveSlots(region, source, target, ranges_of(slots)) for (source, target), slots in sorted(moves.items())
    ]
    count = sum(map(len, (*moves.values(), *settled.values())))
    return Decision(Reason.SCALING, f"{count} half-moved slots are finished", tuple(actions)) if actions else None


def _primary_for(view: View, ident: str) -> Pod | None:
    """The primary that stands for a node now: itself, or who has taken its place. Of a node that is gone with its volume
    that is its shard's: the pod that has its name now is of the same shard."""
    pod = view.by_id.get(ident)
    if pod is None:
        heir = next((pod for pod in view.pods if pod.name == view.name(ident)), None)
        return view.primary(heir.shard) if heir is not None else None
    return pod if node(pod).is_primary else view.by_id.get(node(pod).me.primary)


def balance(view: View) -> Decision | None:
    """Give each wanted shard an equal share, and take all from the others, moving no slot more than needed."""
    primaries = [view.primary(shard) for shard in range(view.shape.shards)]
    if None in primaries:
        return Decision(Reason.CREATING, "waiting for the pods of the new shards")
    targets = [pod for pod in primaries if pod is not None]
    quotas = quotas_of({pod.name: len(node(pod).slots) for pod in targets})
    spare: list[tuple[Pod, int]] = []
    for pod in view.pods:
        if node(pod).is_primary:
            spare += [(pod, slot) for slot in sorted(node(pod).slots)[quotas.get(pod.name, 0) :]]
    if not spare:
        return None
    moves: dict[tuple[str, str], list[int]] = {}
    offered = iter(spare[:PER_LOOK])
    for target in targets:
        for _ in range(quotas[target.name] - len(node(target).slots)):
            source, slot = next(offered, (None, 0))
            if source is not None:
                moves.setdefault((source.name, target.name), []).append(slot)
    actions = tuple(
        MoveSlots(view.cluster.region, source, target, ranges_of(slots[first : first + AT_ONCE]))
        for (source, target), slots in moves.items()
        for first in range(0, len(slots), AT_ONCE)
    )
    return Decision(Reason.SCALING, f"{len(spare)} slots are still to move", actions, again_s=0.1)


def quotas_of(owned: dict[str, int]) -> dict[str, int]:
    """How many slots each should own: equal, the odd ones to those that own most, so that what is equal stays."""
    each, odd = divmod(SLOTS, len(owned))
    order = sorted(owned, key=lambda name: (-owned[name], name))
    return {name: each + (place < odd) for place, name in enumerate(order)}
