"""What there is of a managed Redis: Kubernetes objects, and what each pod's server says."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from agentmemory_operator.kube import (
    CONFIG_MAP,
    NODE,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    VOLUME_CLAIM,
    Kube,
    Object,
)
from agentmemory_operator.observe.redis_nodes import Access, NodeLink, NodeLinks, NodeUnreachable
from agentmemory_operator.observe.regions import labelled
from agentmemory_operator.plan.redis.manifests import SHARD, TEMPLATE, Place
from agentmemory_operator.plan.redis.pki import certificates
from agentmemory_operator.plan.redis.region import FORMED, Seen
from agentmemory_operator.plan.redis.secrets import AUTHORITIES, ROTATE, Keys
from agentmemory_operator.plan.redis.users import OPERATOR, STAMP
from agentmemory_operator.plan.redis.values import Cluster, Node, Peer, Pod
from agentmemory_operator.secretdata import texts
from agentmemory_operator.tiers import Subject

LOOK: tuple[tuple[Any, ...], ...] = (
    ("CLUSTER", "MYID"),
    ("CLUSTER", "NODES"),
    ("CLUSTER", "INFO"),
    ("INFO", "replication", "memory", "keyspace", "persistence"),
    ("ACL", "GETUSER", STAMP),
)
MADE = (STATEFUL_SET, POD_DISRUPTION_BUDGET, SERVICE, CONFIG_MAP, SECRET, VOLUME_CLAIM, POD)
"""What belongs to a managed Redis, pods last."""


async def placed(kube: Kube, subject: Subject, region: str) -> Place:
    """One region's names and wishes; whether pods must choose nodes by label depends on the nodes."""
    regions = labelled(await kube.list(NODE))
    return Place(subject.resource, subject.settings, region, bool(regions) and region != "local")


async def objects(kube: Kube, namespace: str, selector: str) -> dict[str, list[Object]]:
    """What is there of a managed Redis, by kind."""
    found = await asyncio.gather(*(kube.list(kind, namespace, labels=selector) for kind in MADE))
    return {kind.kind: rows for kind, rows in zip(MADE, found, strict=True)}


async def region(
    kube: Kube, place: Place, links: NodeLinks, subject: Subject, waited: Mapping[str, float], now: float
) -> Seen:
    """Everything that a plan for one region goes by. Reads only."""
    found = await objects(kube, place.namespace, place.selector)
    named = {row["metadata"]["name"]: row for row in found["Secret"]}
    keys, node_secret = named.get(place.keys_secret), named.get(place.node_secret)
    data = texts(node_secret) if node_secret else None
    known = _keys(texts(keys)) if keys else None
    pods = [pod for row in found["Pod"] if (pod := pod_of(row, place)) is not None]
    if known is not None:
        access = Access(OPERATOR, known.passwords(OPERATOR), known.bundle(now))
        pods = await ask_all(links, access, pods, place.domain)
    sets = _by_shard(found["StatefulSet"])
    wanted = place.redis.replicas + 1
    counts = {shard: int(row["spec"].get("replicas", 1)) for shard, row in sets.items()}
    counts |= {shard: max(wanted, counts.get(shard, 0)) for shard in range(place.redis.shards)}
    leaf = certificates(data.get("tls.crt", "")) if data else ()
    return Seen(
        cluster=Cluster(place.region, place.namespace, tuple(pods), sum(counts.values()), waited),
        keys=known,
        node_secret=data,
        formed=_annotation(node_secret, FORMED) == "true",
        leaf=leaf[0] if leaf else None,
        config_map=_named(found["ConfigMap"], place.service),
        service=_named(found["Service"], place.service),
        sets=sets,
        budgets=_by_shard(found["PodDisruptionBudget"]),
        claims=tuple(found["PersistentVolumeClaim"]),
        rotate=_annotation(subject.manifest, ROTATE),
        now=now,
    )


def _keys(data: Mapping[str, str]) -> Keys:
    return Keys(data, certificates(data.get(AUTHORITIES, "")))


def _annotation(row: Object | None, name: str) -> str:
    return str(((row or {}).get("metadata", {}).get("annotations") or {}).get(name, ""))


def _named(rows: Sequence[Object], name: str) -> Object | None:
    return next((row for row in rows if row["metadata"]["name"] == name), None)


def _by_shard(rows: Sequence[Object]) -> dict[int, Object]:
    shards = ((row["metadata"]["labels"].get(SHARD, ""), row) for row in rows)
    return {int(shard): row for shard, row in shards if shard.isdigit() and not _going(row)}


def _going(row: Object) -> bool:
    return bool(row["metadata"].get("deletionTimestamp"))


# ------------------------------------------------------------------------------------------------------------------ pods


def pod_of(row: Object, place: Place) -> Pod | None:
    """A pod as Kubernetes tells of it; None for one that is no shard's or has ended."""
    meta, status = row["metadata"], row.get("status") or {}
    shard, ordinal = meta["labels"].get(SHARD, ""), meta["name"].rpartition("-")[2]
    if not shard.isdigit() or not ordinal.isdigit():
        return None
    wanted = place.template(int(shard))["metadata"]["annotations"][TEMPLATE]
    containers = status.get("containerStatuses") or ()
    running = any("running" in (container.get("state") or {}) for container in containers)
    return Pod(
        name=meta["name"],
        shard=int(shard),
        ordinal=int(ordinal),
        uid=meta["uid"],
        address=status.get("podIP", "") if running else "",
        outdated=_annotation(row, TEMPLATE) != wanted,
        leaving=_going(row),
        trouble="" if running else _trouble(status),
    )


def _trouble(status: Mapping[str, Any]) -> str:
    """Why a pod does not run; empty while nothing is wrong yet."""
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return ""


# ----------------------------------------------------------------------------------------------------------------- nodes


async def ask_all(links: NodeLinks, access: Access, pods: Sequence[Pod], domain: str) -> list[Pod]:
    """The pods, each with what its server says; without for those that do not answer."""
    await links.keep(access, {pod.name: (pod.address, f"{pod.name}.{domain}") for pod in pods if pod.address})
    return list(await asyncio.gather(*(_asked(links, pod) for pod in pods)))


async def _asked(links: NodeLinks, pod: Pod) -> Pod:
    if not pod.address:
        return pod
    link = links[pod.name]
    try:
        node = await look(link)
    except NodeUnreachable as error:
        return _with(pod, None, pod.trouble or str(error))
    return _with(pod, node, pod.trouble)


def _with(pod: Pod, node: Node | None, trouble: str) -> Pod:
    return Pod(pod.name, pod.shard, pod.ordinal, pod.uid, pod.address, pod.outdated, pod.leaving, trouble, node)


async def look(link: NodeLink) -> Node:
    """What one server says. Raises NodeUnreachable, also while it is loading its data."""
    replies = await link.ask(*LOOK)
    for reply in replies[:4]:
        if isinstance(reply, RedisError):
            raise NodeUnreachable(str(reply))
    ident, nodes, cluster, info = (str(reply).strip() for reply in replies[:4])
    return node_of(ident, nodes, _fields(cluster), _fields(info), _stamp(replies[4]), link.certificate)


def node_of(
    ident: str, nodes: str, cluster: Mapping[str, str], info: Mapping[str, str], users: str, certificate: str
) -> Node:
    """A node out of the texts of CLUSTER NODES, CLUSTER INFO and INFO."""
    peers: dict[str, Peer] = {}
    migrating: dict[int, str] = {}
    importing: dict[int, str] = {}
    for line in nodes.splitlines():
        words = line.split()
        peer = peer_of(words)
        peers[peer.id] = peer
        for word in words[8:] if peer.id == ident else ():
            if match := re.fullmatch(r"\[(\d+)-([<>])-(\w+)\]", word):
                (migrating if match[2] == ">" else importing)[int(match[1])] = match[3]
    replica = info.get("role") == "slave"
    return Node(
        id=ident,
        peers=peers,
        keys=sum(int(match[1]) for match in re.finditer(r"keys=(\d+)", info.get("db0", ""))),
        cluster_ok=cluster.get("cluster_state") == "ok",
        link_up=not replica or info.get("master_link_status") == "up",
        syncing=replica and info.get("master_sync_in_progress") == "1",
        durable=not replica or not {info.get("aof_rewrite_in_progress"), info.get("aof_rewrite_scheduled")} & {"1"},
        offset=int(info.get("slave_repl_offset" if replica else "master_repl_offset", "0")),
        migrating=migrating,
        importing=importing,
        users=users,
        certificate=certificate,
        memory=int(info.get("used_memory", "0")),
    )


def peer_of(words: Sequence[str]) -> Peer:
    """A line of CLUSTER NODES: id, address:port@bus[,hostname[,…]], flags, primary, ping, pong, epoch, link, slots."""
    address, _, more = words[1].partition(",")
    ranges = tuple(
        (int(first), int(last or first))
        for first, _, last in (word.partition("-") for word in words[8:] if not word.startswith("["))
    )
    return Peer(
        id=words[0],
        address=address.rpartition(":")[0],
        hostname=more.split(",")[0],
        flags=frozenset(words[2].split(",")),
        primary="" if words[3] == "-" else words[3],
        epoch=int(words[6]),
        connected=words[7] == "connected",
        ranges=ranges,
    )


def _fields(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _stamp(reply: Any) -> str:
    """Which users a node has: what is kept as the password of a user that is never on."""
    if not isinstance(reply, list):
        return ""
    pairs = dict(zip(reply[::2], reply[1::2], strict=False))
    return ",".join(pairs.get("passwords") or ())
