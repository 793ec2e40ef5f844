"""Which step the topology of a Redis Cluster needs next. Pure: what is seen goes in, one decision comes out.

The phases run in this order, and the first that has something to do or to wait for decides. Each is safe to repeat and to
leave half done, because all that it goes by is read anew. None empties a node: there is no FLUSHALL and no CLUSTER RESET
here, and a slot's last copy is never given up for one that may be emptier.
"""

from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.redis.slots import balance, close
from agentmemory_operator.plan.redis.values import (
    NODE_TIMEOUT_S,
    AddSlots,
    Cluster,
    Decision,
    Failover,
    Forget,
    Meet,
    NodeAction,
    Pod,
    Replicate,
    Shape,
    ranges_of,
)
from agentmemory_operator.plan.redis.view import ALL, View, best, has_met, node

GOSSIP_S = 10.0
"""So long do nodes get to tell one another whom they have met."""
ELECTION_S = 6 * NODE_TIMEOUT_S
"""So long do nodes get to find a primary dead and to elect its replica, before the replica is told to take over."""
LINK_S = 8.0
"""So long may a replica be without its primary, while it is not being sent a copy, before it is pointed there again."""
SLOTS_AWAY = "part of the hot tier does not answer; agents go on in Degraded mode"


def decide(cluster: Cluster, shape: Shape) -> Decision | None:
    """The next step; None when the cluster is whole, balanced and of this shape."""
    view = View(cluster, shape)
    phases = (_meet, _agree, _lost_primaries, _forget, _cover, _replicate, _link, _whole, close, balance)
    return next((decision for phase in phases if (decision := phase(view)) is not None), None)


# ------------------------------------------------------------------------------------------------------------- addresses


def _meet(view: View) -> Decision | None:
    """Nodes gossip by address alone: after a restart somebody must tell them the new ones."""
    if not view.pods:
        return Decision(Reason.CREATING, _absent(view), serving=False)
    # From the node that knows most of the others, so that two halves become one by joining the smaller to the larger.
    hub = max(view.pods, key=lambda pod: (sum(has_met(pod, other) for other in view.pods), len(node(pod).slots)))
    apart = {one: [other for other in view.pods if other is not one and not has_met(one, other)] for one in view.pods}
    apart = {one: others for one, others in apart.items() if others}
    if not apart:
        return None
    tellers = view.pods if view.cluster.waited.get("apart", 0) >= GOSSIP_S else (hub,)
    actions = tuple(
        Meet(view.cluster.region, one.name, tuple(sorted(other.address for other in apart[one])))
        for one in tellers
        if one in apart
    )
    count = len({other.name for others in apart.values() for other in others})
    reason = Reason.HEALING if view.owner else Reason.FORMING
    return Decision(
        reason, f"{count} nodes are telling one another their addresses", actions,
        symptoms=frozenset() if tellers is view.pods else frozenset({"apart"}),
        serving=_serving(view),
    )  # fmt: skip


def _agree(view: View) -> Decision | None:
    """Nodes that all answer, but do not reach one another or disagree about who leads, sort it out among themselves."""
    for one in view.pods:
        for other in view.pods:
            peer = node(one).peers.get(node(other).id)
            if peer is not None and peer.failing:
                text = f"{one.name} does not reach {other.name}: if this lasts, look at the network between their nodes"
                return Decision(Reason.HEALING, text, serving=_serving(view))
            if peer is not None and peer.is_primary != node(other).is_primary:
                return Decision(Reason.HEALING, f"{one.name} has not heard yet what {other.name} is", serving=True)
    return None


# ------------------------------------------------------------------------------------------------------- lost primaries


def _lost_primaries(view: View) -> Decision | None:
    """Slots whose primary does not answer: its replica is elected by the others, and helped only if that fails."""
    lost = {ident: slots for ident, slots in view.orphans.items() if slots}
    heirs = {ident: best(pod for pod in view.replicas(ident) if not _promised(view, pod)) for ident in lost}
    for ident in sorted(lost):
        symptom, heir = f"election:{ident}", heirs[ident]
        if heir is None:
            continue
        if view.quorum:
            # A replica without anything yet is no heir while the primary may come back with its volume.
            blank = not node(heir).offset and not node(heir).keys and not view.cluster.complete
            if blank or view.cluster.waited.get(symptom, 0) < ELECTION_S:
                text = f"{view.name(ident)} is away; its replica {heir.name} is being elected"
                return Decision(Reason.HEALING, text, symptoms=frozenset({symptom}), serving=False)
            why = "its primary is away and nobody was elected"
            force = Failover(view.cluster.region, heir.name, "FORCE", why)
            return Decision(Reason.HEALING, f"{heir.name} takes over from {view.name(ident)}", (force,), serving=False)
        if view.cluster.complete:
            # Every pod answers and none has this id: it is gone for good, and so is the majority that could elect.
            take = Failover(view.cluster.region, heir.name, "TAKEOVER", "most primaries are gone for good")
            return Decision(Reason.HEALING, f"{heir.name} takes over from {view.name(ident)}", (take,), serving=False)
    if not lost or view.cluster.complete:
        return None
    away = ", ".join(view.name(ident) for ident in sorted(lost, key=view.name))
    if not view.quorum and any(heirs.values()):
        text = (
            f"most primaries are away ({away}), so that no replica can be elected; {SLOTS_AWAY}. Bring their nodes "
            "back. If a node is gone for good, delete the PersistentVolumeClaim and the Pod of each of these: then the "
            f"replicas take over. {_absent(view)}"
        )
        return Decision(Reason.DATA_AT_RISK, text.strip(), serving=False)
    text = f"{away} does not answer and has no replica that does: {SLOTS_AWAY} until it is back. {_absent(view)}"
    return Decision(Reason.DEGRADED, text.strip(), serving=False)


def _promised(view: View, pod: Pod) -> bool:
    """Whether a pod is about to go."""
    return pod.leaving and any(other is not pod and not other.leaving for other in view.shard(pod.shard))


def _forget(view: View) -> Decision | None:
    """Strike ids that nobody has: never before elections are over, since a voter would be struck, never while a pod does
    not answer, since the id may be its, and never while slots are on their way there, since with the id a node forgets
    that, and the keys that have gone ahead lie with the heir."""
    if not view.cluster.complete:
        return None
    actions: list[NodeAction] = []
    lost = 0
    awaited = {ident for pod in view.pods for ident in node(pod).migrating.values()}
    for ident in sorted(view.orphans.keys() - awaited):
        followers = view.replicas(ident)
        for pod in followers:
            actions += _follow(view, pod, ident)
        if not followers:
            knowing = tuple(sorted(pod.name for pod in view.pods if ident in node(pod).peers))
            actions.append(Forget(view.cluster.region, view.name(ident), knowing, ident))
            lost += len(view.orphans[ident])
    text = f"{len(view.orphans)} nodes that are gone are forgotten"
    if lost:
        text += f"; with them the copies of {lost} slots, which are served again, empty"
    return Decision(Reason.HEALING, text, tuple(actions), serving=not lost) if actions else None


def _follow(view: View, pod: Pod, gone: str) -> list[NodeAction]:
    """A replica of a node without slots that is gone: it follows its own shard's primary, or becomes it."""
    primary = view.primary(pod.shard)
    if primary is not None:
        return [Replicate(view.cluster.region, pod.name, node(primary).id, "its primary is gone")]
    if best(other for other in view.shard(pod.shard) if node(other).me.primary == gone) is not pod:
        return []
    return [Failover(view.cluster.region, pod.name, "TAKEOVER", "its primary is gone and owned nothing")]


# --------------------------------------------------------------------------------------------------- slots and replicas


def _cover(view: View) -> Decision | None:
    """Give slots that nobody owns to the shards: all of them when a cluster forms."""
    if not view.cluster.complete:
        return None
    bare = ALL - view.owner.keys()
    shares: dict[str, set[int]] = {}
    for slot in bare:
        primary = view.primary(slot * view.shape.shards // len(ALL))
        if primary is not None:
            shares.setdefault(primary.name, set()).add(slot)
    if not shares:
        return None
    actions = tuple(AddSlots(view.cluster.region, name, ranges_of(slots)) for name, slots in sorted(shares.items()))
    reason = Reason.HEALING if view.owner else Reason.FORMING
    return Decision(reason, f"{len(bare)} slots are given to {len(shares)} primaries", actions, serving=False)


def _replicate(view: View) -> Decision | None:
    """Each pod of a shard that is not its primary replicates it."""
    actions: list[NodeAction] = []
    for shard in view.shards:
        primary = view.primary(shard)
        actions += (
            Replicate(view.cluster.region, pod.name, node(primary).id)
            for pod in view.shard(shard)
            if primary is not None and pod is not primary and _strays(view, pod, primary)
        )
    return Decision(Reason.REPLICATING, f"{len(actions)} nodes become replicas", tuple(actions)) if actions else None


def _strays(view: View, pod: Pod, primary: Pod) -> bool:
    """Whether a pod should follow its shard's primary and does not. What may hold a last copy stays as it is."""
    me = node(pod)
    if me.is_primary:
        return not me.slots and not me.keys and not me.importing
    if me.me.primary == node(primary).id:
        return False
    other = view.by_id.get(me.me.primary)
    return other is not None and node(other).is_primary and (other.shard != pod.shard or not node(other).slots)


def _link(view: View) -> Decision | None:
    """Wait for replicas to be in step, with their copy on disk; point one that lost its primary's address there again.

    After all addresses changed, a replica may go on dialling its primary's old one, while all else is well.
    """
    replicas = [pod for pod in view.pods if not node(pod).is_primary]
    behind = [pod for pod in replicas if not node(pod).link_up or not node(pod).durable]
    actions: list[NodeAction] = []
    symptoms: set[str] = set()
    for pod in behind:
        symptom = f"link:{pod.name}"
        if node(pod).link_up or node(pod).syncing or node(pod).me.primary not in view.by_id:
            continue
        if view.cluster.waited.get(symptom, 0) < LINK_S:
            symptoms.add(symptom)
        else:
            actions.append(Replicate(view.cluster.region, pod.name, node(pod).me.primary, "its link is down"))
    if not behind:
        return None
    names = ", ".join(pod.name for pod in behind)
    return Decision(
        Reason.REPLICATING, f"copying to {names}", tuple(actions), frozenset(symptoms), serving=_serving(view)
    )


def _whole(view: View) -> Decision | None:
    """Nothing is moved, and no pod made anew, before every pod is there and well."""
    if not view.cluster.complete or any(pod.leaving for pod in view.cluster.pods):
        reason = Reason.DEGRADED if view.owner else Reason.CREATING
        return Decision(reason, _absent(view), serving=_serving(view))
    if not all(node(pod).cluster_ok for pod in view.pods):
        return Decision(Reason.HEALING, "the nodes are finding one another", serving=False)
    keepers = [pod for pod in view.pods if node(pod).is_primary and not node(pod).slots and node(pod).keys]
    for pod in keepers:
        primary = view.primary(pod.shard)
        if primary is not None and primary is not pod:
            text = f"{pod.name} holds keys but owns no slots: delete its PersistentVolumeClaim and the Pod"
            return Decision(Reason.DEGRADED, text)
    return None


def _serving(view: View) -> bool:
    return len(view.owner) == len(ALL)


def _absent(view: View) -> str:
    """Which pods are not there, and why."""
    away = [pod for pod in view.cluster.pods if pod.node is None or pod.leaving]
    texts = [
        f"{pod.name}: {'is being deleted' if pod.leaving else pod.trouble or 'does not answer yet'}" for pod in away
    ]
    missing = view.cluster.expected - len(view.cluster.pods)
    if missing > 0:
        texts.append(f"{missing} pods are still to be made")
    return "; ".join(texts[:4]) + (f"; and {len(texts) - 4} more" if len(texts) > 4 else "")
