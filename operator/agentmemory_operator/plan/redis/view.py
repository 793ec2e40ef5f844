"""A cluster looked at as a whole: whose id is whose, who owns what, who leads which shard."""

from collections.abc import Iterable
from functools import cached_property

from agentmemory_operator.plan.redis.values import SLOTS, Cluster, Node, Pod, Shape

ALL = frozenset(range(SLOTS))


class View:
    """Pods here are those that answer; each has its node."""

    def __init__(self, cluster: Cluster, shape: Shape) -> None:
        self.cluster, self.shape = cluster, shape

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        return self.cluster.reachable

    @cached_property
    def by_id(self) -> dict[str, Pod]:
        return {node(pod).id: pod for pod in self.pods}

    @cached_property
    def owner(self) -> dict[int, Pod]:
        """Who says that it owns a slot; of two, the one with the newer epoch, as the nodes will find themselves."""
        found: dict[int, Pod] = {}
        for pod in sorted(self.pods, key=lambda pod: (node(pod).me.epoch, node(pod).id)):
            found |= dict.fromkeys(node(pod).slots, pod)
        return found

    @cached_property
    def orphans(self) -> dict[str, frozenset[int]]:
        """Ids that some node knows and no pod has that answers, with the slots that are theirs as far as is known."""
        found: dict[str, frozenset[int]] = {}
        for pod in self.pods:
            for peer in node(pod).peers.values():
                if peer.id not in self.by_id and "handshake" not in peer.flags:
                    claimed = peer.slots - self.owner.keys() if peer.is_primary else frozenset()
                    found[peer.id] = found.get(peer.id, frozenset()) | claimed
        return found

    @cached_property
    def quorum(self) -> bool:
        """Whether the primaries that answer can elect: the majority of those that own slots."""
        present = sum(1 for pod in self.pods if node(pod).is_primary and node(pod).slots)
        absent = sum(1 for slots in self.orphans.values() if slots)
        return 2 * present > present + absent

    def name(self, ident: str) -> str:
        """The pod that has, or had, this id: nodes announce their pod's name. Else the id's beginning."""
        hostnames = (node(pod).peers[ident].hostname for pod in self.pods if ident in node(pod).peers)
        return next((hostname.split(".")[0] for hostname in hostnames if hostname), ident[:8])

    def shard(self, number: int) -> list[Pod]:
        return [pod for pod in self.pods if pod.shard == number]

    @cached_property
    def shards(self) -> list[int]:
        return sorted({pod.shard for pod in self.pods})

    def primary(self, shard: int) -> Pod | None:
        """The primary of a shard: of several the one with most slots; of none with slots the first."""
        primaries = [pod for pod in self.shard(shard) if node(pod).is_primary]
        return max(primaries, key=lambda pod: (len(node(pod).slots), -pod.ordinal), default=None)

    def replicas(self, ident: str) -> list[Pod]:
        return [pod for pod in self.pods if not node(pod).is_primary and node(pod).me.primary == ident]


def node(pod: Pod) -> Node:
    """The node of a pod that answers."""
    assert pod.node is not None
    return pod.node


def best(replicas: Iterable[Pod]) -> Pod | None:
    """The one that has most of its primary's writes; of two, one that has them on disk."""
    return max(
        replicas, key=lambda pod: (node(pod).offset, node(pod).durable, node(pod).keys, -pod.ordinal), default=None
    )


def has_met(one: Pod, other: Pod) -> bool:
    """Whether one node knows the other, at the address where it is now."""
    peer = node(one).peers.get(node(other).id)
    return peer is not None and peer.address == other.address and not peer.flags & {"handshake", "noaddr"}
