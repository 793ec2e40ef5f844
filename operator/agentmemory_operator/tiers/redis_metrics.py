"""What the operator tells Prometheus of managed Redis pods: as it saw them at its last look, at most half a minute ago."""

from prometheus_client import Gauge

from agentmemory_operator.plan.redis.values import Cluster

_LABELS = ("namespace", "resource", "region", "pod")
_UP = Gauge("agentmemory_redis_up", "1 if the pod's server answers.", _LABELS)
_PRIMARY = Gauge("agentmemory_redis_primary", "1 for a primary, 0 for a replica.", _LABELS)
_LINKED = Gauge(
    "agentmemory_redis_link_up", "1 for a primary, and for a replica that is in step with its own.", _LABELS
)
_SLOTS = Gauge("agentmemory_redis_slots", "Slots that the pod owns; they add up to 16384 in a region.", _LABELS)
_KEYS = Gauge("agentmemory_redis_keys", "Keys that the pod holds, copies too.", _LABELS)
_MEMORY = Gauge("agentmemory_redis_memory_bytes", "Memory that the server uses.", _LABELS)
_ALL = (_UP, _PRIMARY, _LINKED, _SLOTS, _KEYS, _MEMORY)

Told = frozenset[tuple[str, str, str, str]]
"""The labels that were set for one region of one resource."""


def tell(resource: str, cluster: Cluster, before: Told = frozenset()) -> Told:
    """Set the gauges of a region's pods, and drop those of pods that are no more. Returns what to give next time."""
    now = set()
    for pod in cluster.pods:
        labels = (cluster.namespace, resource, cluster.region, pod.name)
        now.add(labels)
        _UP.labels(*labels).set(pod.node is not None)
        if pod.node is None:
            continue
        _PRIMARY.labels(*labels).set(pod.node.is_primary)
        _LINKED.labels(*labels).set(pod.node.link_up)
        _SLOTS.labels(*labels).set(len(pod.node.slots))
        _KEYS.labels(*labels).set(pod.node.keys)
        _MEMORY.labels(*labels).set(pod.node.memory)
    forget(before - now)
    return frozenset(now)


def forget(told: Told) -> None:
    """Drop gauges."""
    for labels in told:
        for gauge in _ALL:
            gauge.remove(*labels)
