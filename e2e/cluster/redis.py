"""Managed Redis Clusters, as the drills look at and hurt them."""

import json
from typing import Any

from e2e.cluster.agents import pods
from e2e.cluster.shell import kubectl, node_kill

APP = "app.kubernetes.io/name=agentmemory-redis"
_ROLE = (
    'REDISCLI_AUTH="$(cat /etc/agentmemory/redis-secrets/replica)" redis-cli -h "$POD_IP" --tls '
    "--cacert /etc/agentmemory/redis-secrets/ca.crt --user replica --no-auth-warning info replication"
)


async def redis_pods(namespace: str, region: str = "") -> list[dict[str, Any]]:
    found = await pods(namespace, APP)
    return [pod for pod in found if not region or pod["metadata"]["labels"].get("agentmemory.io/region") == region]


async def kill_process(namespace: str, pod: str) -> None:
    """kill -9 of the server, from its node."""
    await node_kill(namespace, pod, "redis-server")


async def delete(namespace: str, names: list[str]) -> None:
    await kubectl("-n", namespace, "delete", "pod", *names, "--grace-period=0", "--force", "--wait=false")


def serves(pod: dict[str, Any]) -> bool:
    states = pod["status"].get("containerStatuses", ())
    return bool(states) and all(row["ready"] for row in states)


def shard_of(pod: dict[str, Any]) -> str:
    """A shard is a StatefulSet."""
    return str(pod["metadata"]["name"].rpartition("-")[0])


async def primaries(namespace: str, region: str) -> dict[str, str]:
    """The pods that are primaries, as they say themselves, with their nodes. Those that wait for a node are none."""
    found = {}
    for pod in await redis_pods(namespace, region):
        name = pod["metadata"]["name"]
        if not serves(pod):
            continue
        said = await kubectl("-n", namespace, "exec", name, "-c", "redis", "--", "sh", "-c", _ROLE)
        if "role:master" in said.out:
            found[name] = pod["spec"]["nodeName"]
    return found


def managed(namespace: str, name: str, regions: list[str], shards: int, stores_in: str = "") -> dict[str, Any]:
    """Managed Redis beside embedded stores: what is drilled is the hot tier. ``stores_in`` is the stores' region, if it
    matters."""
    embedded = {"nodeSelector": {"topology.kubernetes.io/region": stores_in}} if stores_in else {}
    redis = {"managed": {"shards": shards, "replicas": 1, "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}}}}
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "regions": regions,
            "ephemeral": {"redis": redis},
            "state": {"embedded": embedded},
            "archive": {"embedded": embedded},
            "session": {"identity": {"headers": ["X-Agent-Session"]}},
        },
    }


def patch(shards: int) -> str:
    return json.dumps({"spec": {"ephemeral": {"redis": {"managed": {"shards": shards}}}}})
