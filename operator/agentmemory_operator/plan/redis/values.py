"""What is known of a Redis Cluster, as each of its pods tells it, and what can be done to it."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.values import Action

SLOTS = 16384
NODE_TIMEOUT_S = 5.0
"""`cluster-node-timeout`: a node that is silent for so long is suspected, and its replica elected."""

Ranges = tuple[tuple[int, int], ...]
"""Slots as (first, last), both included."""


@functools.lru_cache(maxsize=1024)
def slots_of(ranges: Ranges) -> frozenset[int]:
    return frozenset(slot for first, last in ranges for slot in range(first, last + 1))


def ranges_of(slots: Iterable[int]) -> Ranges:
    """The fewest ranges that hold exactly these slots, in order."""
    found: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot - 1:
            found[-1] = (found[-1][0], slot)
        else:
            found.append((slot, slot))
    return tuple(found)


# -------------------------------------------------------------------------------------------------------------- observed


@dataclass(frozen=True, slots=True)
class Peer:
    """A node as another one (or itself) sees it: a line of CLUSTER NODES."""

    id: str
    address: str
    """IP address; empty if unknown."""
    hostname: str = ""
    flags: frozenset[str] = frozenset()
    """``myself``, ``master``, ``slave``, ``fail?``, ``fail``, ``handshake``, ``noaddr``."""
    primary: str = ""
    """The id of the primary that it replicates; empty for none."""
    epoch: int = 0
    connected: bool = True
    ranges: Ranges = ()

    @property
    def is_primary(self) -> bool:
        return "master" in self.flags

    @property
    def failing(self) -> bool:
        return bool(self.flags & {"fail", "fail?"})

    @property
    def slots(self) -> frozenset[int]:
        return slots_of(self.ranges)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """What a pod's server says."""

    id: str
    peers: Mapping[str, Peer]
    """By id; itself among them."""
    keys: int = 0
    cluster_ok: bool = True
    """CLUSTER INFO's ``cluster_state:ok``."""
    link_up: bool = True
    """A replica's connection to its primary; True for a primary."""
    syncing: bool = False
    """A replica that is being sent a full copy."""
    durable: bool = True
    """A replica has its copy on disk. It has not for a while after it was sent one: killed then, it comes back with what
    it had before, or with nothing."""
    offset: int = 0
    """Replication offset."""
    migrating: Mapping[int, str] = field(default_factory=dict)
    """Slots that are leaving: to which node's id."""
    importing: Mapping[int, str] = field(default_factory=dict)
    """Slots that are arriving: from which node's id."""
    users: str = ""
    """The hash of the users' definitions that it has loaded."""
    certificate: str = ""
    """The serial number of the certificate that it serves, in hex."""
    memory: int = 0
    """Bytes used."""

    @property
    def me(self) -> Peer:
        return self.peers[self.id]

    @property
    def is_primary(self) -> bool:
        return self.me.is_primary

    @property
    def slots(self) -> frozenset[int]:
        return self.me.slots


@dataclass(frozen=True, slots=True, eq=False)
class Pod:
    """A pod of the cluster; ``node`` is None while its server cannot be asked."""

    name: str
    shard: int
    ordinal: int
    uid: str = ""
    address: str = ""
    outdated: bool = False
    """Its template is not the one that is wanted."""
    leaving: bool = False
    """It is being deleted."""
    trouble: str = ""
    """Why it does not run, as Kubernetes tells it."""
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """One region's Redis."""

    region: str
    namespace: str
    pods: tuple[Pod, ...]
    expected: int
    """How many pods there must be, by the StatefulSets as they are."""
    waited: Mapping[str, float] = field(default_factory=dict)
    """For how long (seconds) each symptom of the last looks has lasted."""

    @property
    def reachable(self) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.pods if pod.node is not None)

    @property
    def complete(self) -> bool:
        """Every pod is there and answers: an id that none of them has is nowhere."""
        return len(self.pods) == self.expected and all(pod.node for pod in self.pods)


@dataclass(frozen=True, slots=True)
class Shape:
    """What is wanted."""

    shards: int
    replicas: int


# --------------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class NodeAction(Action):
    """Something that is asked of the server in one pod."""

    region: str
    pod: str


@dataclass(frozen=True, slots=True)
class Meet(NodeAction):
    """Tell a node the addresses of others."""

    addresses: tuple[str, ...]

    def describe(self) -> str:
        return f"{self.pod}: CLUSTER MEET {' '.join(self.addresses)}"


@dataclass(frozen=True, slots=True)
class Forget(NodeAction):
    """Strike a node that is no more from every other one's list: within a minute, or gossip brings it back."""

    pods: tuple[str, ...]
    """Who must forget; ``pod`` is what is known of who is forgotten."""
    id: str

    def describe(self) -> str:
        return f"{len(self.pods)} nodes: CLUSTER FORGET {self.id} ({self.pod or 'unknown'})"


@dataclass(frozen=True, slots=True)
class AddSlots(NodeAction):
    ranges: Ranges

    def describe(self) -> str:
        return f"{self.pod}: CLUSTER ADDSLOTSRANGE {written(self.ranges)}"


@dataclass(frozen=True, slots=True)
class Replicate(NodeAction):
    """Make a node without slots and keys, or a replica, a replica of this primary."""

    primary: str
    """The primary's id."""
    why: str = ""

    def describe(self) -> str:
        return f"{self.pod}: CLUSTER REPLICATE {self.primary}" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True, slots=True)
class Failover(NodeAction):
    """Let a replica take its primary's place."""

    how: str = ""
    """Empty: in agreement with the primary. ``FORCE``: without it. ``TAKEOVER``: without anybody's vote."""
    why: str = ""

    def describe(self) -> str:
        return " ".join(f"{self.pod}: CLUSTER FAILOVER {self.how}".split()) + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True, slots=True)
class MoveSlots(NodeAction):
    """Move slots with their keys from ``pod`` to ``target``. Doing it again finishes what was begun."""

    target: str
    ranges: Ranges

    def describe(self) -> str:
        return f"move slots {written(self.ranges)} from {self.pod} to {self.target}"


@dataclass(frozen=True, slots=True)
class SettleSlots(NodeAction):
    """Close slots that a node has open although it owns them and nobody sends or takes them, or that are moved."""

    ranges: Ranges
    owner: str
    """The owner's id."""

    def describe(self) -> str:
        return f"{self.pod}: close slots {written(self.ranges)}"


@dataclass(frozen=True, slots=True)
class LoadUsers(NodeAction):
    """Give a node the users as its Secret has them, with which it would start."""

    def describe(self) -> str:
        return f"{self.pod}: load users"


@dataclass(frozen=True, slots=True)
class LoadCertificate(NodeAction):
    """Make a node read its certificate again."""

    def describe(self) -> str:
        return f"{self.pod}: load the certificate"


def written(ranges: Ranges) -> str:
    """For people: ``0-99 200``, cut where it is long."""
    words = [f"{first}-{last}" if last > first else str(first) for first, last in ranges]
    return " ".join(words[:4]) + (f" and {len(words) - 4} more ranges" if len(words) > 4 else "")


# -------------------------------------------------------------------------------------------------------------- decision


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, and what to tell."""

    reason: Reason
    message: str = ""
    actions: tuple[Action, ...] = ()
    symptoms: frozenset[str] = frozenset()
    """What is to be timed: see ``Cluster.waited``."""
    begins: frozenset[str] = frozenset()
    """Symptoms whose time begins now, even if they were there before."""
    serving: bool = True
    """Every slot is served."""
    again_s: float | None = 1.0
