from prometheus_client import REGISTRY

from agentmemory_operator.plan.redis.values import Cluster
from agentmemory_operator.tiers.redis_metrics import forget, tell
from tests.operator.plan.redis.test_topology import cluster, three


def value(name: str, pod: str) -> float | None:
    labels = {"namespace": "ns", "resource": "support", "region": "east", "pod": pod}
    return REGISTRY.get_sample_value(f"agentmemory_redis_{name}", labels)


def test_pods_are_told_of_and_those_that_are_gone_are_not() -> None:
    told = tell("support", cluster(three(), frozenset({"s2"})))
    assert value("slots", "r-0-0") == 5462
    assert value("primary", "r-0-1") == 0
    assert value("up", "r-2-1") == 0
    assert value("keys", "r-2-1") is None
    told = tell("support", Cluster("east", "ns", cluster(three()).pods[:2], 6), told)
    assert value("up", "r-2-0") is None
    forget(told)
    assert value("up", "r-0-0") is None
