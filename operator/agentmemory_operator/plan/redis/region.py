"""What one region's Redis Cluster needs: its secrets, its objects, its topology, its pods' age, in this order."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from agentmemory_operator import names
from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.drift import differences, quantity
from agentmemory_operator.plan.redis import secrets
from agentmemory_operator.plan.redis.manifests import INTENT, PORT, Place
from agentmemory_operator.plan.redis.pki import Certificate
from agentmemory_operator.plan.redis.rolling import roll, step_down, unstick
from agentmemory_operator.plan.redis.topology import decide
from agentmemory_operator.plan.redis.users import SIDECAR, stamp
from agentmemory_operator.plan.redis.values import Cluster, Decision, LoadCertificate, LoadUsers, Shape
from agentmemory_operator.plan.redis.view import View, node
from agentmemory_operator.plan.values import Action, Apply, Manifest, Provides, Remove
from agentmemory_operator.secretdata import encoded
from agentmemory_sidecar.resource.store_config import RedisHot, TlsConfig

FORMED = f"{names.GROUP}/formed"
"""Annotation of the pods' Secret: this cluster has served before."""
STEADY_S = 30.0
FILES_S = 10.0
"""Between two tries to load files that a node may not have got yet."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of one region's Redis."""

    cluster: Cluster
    keys: secrets.Keys | None = None
    node_secret: Mapping[str, str] | None = field(default=None, repr=False)
    """The data of the Secret that pods mount."""
    formed: bool = False
    leaf: Certificate | None = None
    config_map: Manifest | None = None
    service: Manifest | None = None
    sets: Mapping[int, Manifest] = field(default_factory=dict)
    """StatefulSets by shard."""
    budgets: Mapping[int, Manifest] = field(default_factory=dict)
    claims: tuple[Manifest, ...] = ()
    rotate: str = ""
    """The resource's annotation that asks for new passwords."""
    now: float = 0.0
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One region's part of a plan."""

    decision: Decision
    actions: tuple[Action, ...]
    drift: tuple[str, ...] = ()
    provides: Provides | None = None
    note: str = ""
    ready: bool = False
    """Every slot is served."""
    young: bool = True
    """It has never been."""


def plan_region(place: Place, seen: Seen) -> Outcome:
    """The next step of one region."""
    shape = Shape(place.redis.shards, place.redis.replicas)
    secret_actions = _secrets(place, seen)
    if seen.keys is None or seen.node_secret is None:
        creating = Decision(Reason.CREATING, "making passwords and certificates", serving=False, again_s=0.2)
        return Outcome(creating, tuple(secret_actions))
    objects, drift = _objects(place, seen, shape)
    decision = _decision(place, seen, shape, changing=any(isinstance(action, Apply) for action in objects))
    files = _files(seen)
    actions = [*secret_actions, *objects, *files, *decision.actions, *_grow(place, seen)]
    serving = decision.serving and seen.cluster.reachable != ()
    whole = decision.reason is Reason.READY
    if whole and not seen.formed:
        actions.append(_mark_formed(place))
    if whole:
        decision = replace(decision, again_s=1.0 if secret_actions else FILES_S if files else STEADY_S)
    return Outcome(
        decision=decision,
        actions=tuple(actions),
        drift=tuple(drift),
        provides=_provides(place, seen) if seen.formed or whole else None,
        note=_note(seen.cluster, shape),
        ready=serving and (seen.formed or whole),
        young=not seen.formed,
    )


def _decision(place: Place, seen: Seen, shape: Shape, *, changing: bool) -> Decision:
    cluster = seen.cluster
    if (stuck := unstick(cluster)) is not None:
        return stuck
    if (decision := decide(cluster, shape)) is not None:
        return decision
    if (surplus := _surplus(place, seen, shape)) is not None:
        return surplus
    if changing:
        return Decision(Reason.PROGRESSING, "objects are being brought up to date")
    return roll(cluster, shape) or Decision(Reason.READY, again_s=None)


# --------------------------------------------------------------------------------------------------------------- secrets


def _secrets(place: Place, seen: Seen) -> list[Action]:
    actions: list[Action] = []
    action = secrets.keys_action(place.secret(place.keys_secret), seen.keys, seen.rotate, seen.now)
    if action is not None:
        return [action]  # The rest follows from what it makes: next time.
    assert seen.keys is not None
    live = seen.node_secret or {}
    derived = secrets.derived(seen.keys, seen.now)
    manifest = place.secret(place.node_secret) | {"data": encoded(derived)}
    manifest["metadata"] = manifest["metadata"] | {"annotations": {FORMED: str(seen.formed).lower()}}
    why = secrets.stale(seen.leaf, live, seen.keys, place.hostnames, seen.now)
    if why:
        actions.append(secrets.IssueCertificate(manifest, seen.keys, place.hostnames, why))
    elif different := [key for key, value in derived.items() if live.get(key) != value]:
        kept = {key: live[key] for key in ("tls.crt", "tls.key")}
        actions.append(Apply(manifest | {"data": encoded(derived | kept)}, ", ".join(different)))
    return actions


def _mark_formed(place: Place) -> Action:
    meta = place.secret(place.node_secret)["metadata"]
    return MarkFormed(meta["namespace"], meta["name"])


@dataclass(frozen=True, slots=True)
class MarkFormed(Action):
    """Note at a Secret that its cluster has served: from then on sidecars are told of it, also while it does not."""

    namespace: str
    name: str

    def describe(self) -> str:
        return f"note at Secret {self.namespace}/{self.name} that the cluster has formed"


def _files(seen: Seen) -> list[Action]:
    """Nodes that still have other users, or another certificate, than their Secret."""
    if seen.keys is None:
        return []
    wanted = stamp(seen.keys.users)
    actions: list[Action] = []
    for pod in seen.cluster.reachable:
        if node(pod).users != wanted:
            actions.append(LoadUsers(seen.cluster.region, pod.name))
        if seen.leaf is not None and node(pod).certificate not in ("", seen.leaf.serial):
            actions.append(LoadCertificate(seen.cluster.region, pod.name))
    return actions


# --------------------------------------------------------------------------------------------------------------- objects


def _objects(place: Place, seen: Seen, shape: Shape) -> tuple[list[Action], list[str]]:
    pairs: list[tuple[Manifest, Manifest | None]] = [
        (place.config_map(), seen.config_map),
        (place.headless_service(), seen.service),
    ]
    # Shards that are no longer wanted keep serving, as they are, until they own nothing.
    for shard in sorted({*range(shape.shards), *seen.sets}):
        live = seen.sets.get(shard)
        pods = _pods(seen, shard, shape.replicas + 1)
        pairs += [
            (place.disruption_budget(shard), seen.budgets.get(shard)),
            (place.shard_set(shard, pods, live), live),
        ]
    actions: list[Action] = []
    drift: list[str] = []
    for wanted, live in pairs:
        different = differences(wanted, live) if live is not None else []
        if live is None or different:
            actions.append(Apply(wanted, ", ".join(different[:3])))
        if live is not None and different and _ours(live) == _ours(wanted):
            drift.append(f"{wanted['kind']} {wanted['metadata']['name']}: {', '.join(different[:3])}")
    return actions, drift


def _ours(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("annotations", {}).get(INTENT, ""))


def _pods(seen: Seen, shard: int, wanted: int) -> int:
    """How many pods a shard gets now: none is taken away that may hold a slot's newest copy."""
    live = seen.sets.get(shard)
    have = int(live["spec"].get("replicas", 1)) if live is not None else wanted
    if have <= wanted:
        return wanted
    here = [pod for pod in seen.cluster.pods if pod.shard == shard]
    safe = len(here) >= have and all(pod.node and (pod.ordinal < wanted or not node(pod).is_primary) for pod in here)
    return wanted if safe else have


def _surplus(place: Place, seen: Seen, shape: Shape) -> Decision | None:
    """Shards that own nothing any more go; a primary whose pod is to go steps down first."""
    for shard in sorted(seen.sets):
        if shard >= shape.shards:
            live = [seen.sets[shard], *([seen.budgets[shard]] if shard in seen.budgets else [])]
            text = f"shard {shard} owns no slots any more and goes; its volumes stay"
            return Decision(Reason.SCALING, text, tuple(remove(each, "scaled in") for each in live))
    view = View(seen.cluster, shape)
    for shard in range(shape.shards):
        primary = view.primary(shard)
        if primary is not None and primary.ordinal > shape.replicas:
            heirs = [pod for pod in view.replicas(node(primary).id) if pod.ordinal <= shape.replicas]
            text = f"{primary.name} steps down before it goes"
            return step_down(seen.cluster, primary, heirs, text)
    return None


def remove(live: Manifest, why: str) -> Remove:
    """Exactly this object."""
    meta = live["metadata"]
    return Remove(live["apiVersion"], live["kind"], meta["namespace"], meta["name"], meta["uid"], why)


def _grow(place: Place, seen: Seen) -> list[Action]:
    """Volumes that are smaller than wanted grow, where their storage class allows it."""
    wanted = place.claim_size()
    size = quantity(wanted)
    actions: list[Action] = []
    for claim in seen.claims:
        has = quantity(claim["spec"]["resources"]["requests"].get("storage", "0"))
        if size is not None and has is not None and has < size:
            meta = claim["metadata"]
            manifest = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
                "spec": {"resources": {"requests": {"storage": wanted}}},
            }
            actions.append(Apply(manifest, f"grow to {wanted}"))
    return actions


# --------------------------------------------------------------------------------------------------------------- provides


def _provides(place: Place, seen: Seen) -> Provides | None:
    """The address that leads to every pod, and for a second chance the first pods of three shards: all stay the same
    when shards come and go. A new password is told once every node takes it."""
    if seen.keys is None:
        return None
    everywhere = all(node(pod).users == stamp(seen.keys.users) for pod in seen.cluster.reachable)
    passwords = seen.keys.passwords(SIDECAR)
    hosts = [place.domain, *(f"{place.stateful_set(shard)}-0.{place.domain}" for shard in range(3))]
    return Provides(
        managed_redis=RedisHot(
            urls=tuple(f"rediss://{host}:{PORT}" for host in hosts),
            cluster=True,
            username=SIDECAR,
            password=SecretStr(passwords[0] if everywhere else passwords[-1]),
            tls=TlsConfig(ca_pem=seen.keys.bundle(seen.now)),
        )
    )


def _note(cluster: Cluster, shape: Shape) -> str:
    view = View(cluster, shape)
    serving = sum(1 for shard in range(shape.shards) if (pod := view.primary(shard)) and node(pod).slots)
    linked = [
        sum(1 for pod in view.shard(shard) if not node(pod).is_primary and node(pod).link_up)
        for shard in range(shape.shards)
    ]
    least = min(linked, default=0)
    return f"redis {serving}/{shape.shards} shards, {least} replica{'' if least == 1 else 's'} each"


# --------------------------------------------------------------------------------------------------------------- leaving


def plan_leaving(everything: tuple[Manifest, ...], *, delete: bool) -> tuple[Action, ...]:
    """What goes with the resource. Retain: the pods and what shapes them; volumes and Secrets stay, so that the same
    resource made again finds its cluster. Delete: those too.

    :param everything: all objects of ours, of every region, with pods last.
    """
    kept = () if delete else ("Secret", "PersistentVolumeClaim")
    return tuple(
        remove(live, "deletionPolicy Delete" if live["kind"] in ("Secret", "PersistentVolumeClaim") else "leaving")
        for live in everything
        if live["kind"] not in (*kept, "Pod") and not live["metadata"].get("deletionTimestamp")
    )
