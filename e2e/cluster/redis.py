"""Managed Redis Clusters, as the drills look at and hurt them."""

import json
from typing import Any

from e2e.cluster.agents import pods
from e2e.cluster.shell import kubectl, node_kill

APP = "app.kubernetes.io/name=agentmemory-redis"


async def redis_pods(namespace: str, region: str = "") -> list[dict[str, Any]]:
    found = await pods(namespace, APP)
    return [pod for pod in found if not region or pod["metadata"]["labels"].get("agentmemory.io/region") == region]


async def kill_process(namespace: str, pod: str) -> None:
    """kill -9 of the server, from its node."""
    await node_kill(namespace, pod, "redis-server")


async def delete(namespace: str, names: list[str]) -> None:
    await kubectl("-n", namespace, "delete", "pod", *names, "--grace-period=0", "--force", "--wait=false")


def shard_of(pod: dict[str, Any]) -> str:
    """A shard is a StatefulSet."""
    return str(pod["metadata"]["name"].rpartition("-")[0])


def managed(namespace: str, name: str, regions: list[str], shards: int) -> dict[str, Any]:
    """Managed Redis beside embedded stores: what is drilled is the hot tier."""
    redis = {"managed": {"shards": shards, "replicas": 1, "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}}}}
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "regions": regions,
            "ephemeral": {"redis": redis},
            "state": {"embedded": {}},
            "archive": {"embedded": {}},
            "session": {"identity": {"headers": ["X-Agent-Session"]}},
        },
    }


def patch(shards: int) -> str:
    return json.dumps({"spec": {"ephemeral": {"redis": {"managed": {"shards": shards}}}}})
