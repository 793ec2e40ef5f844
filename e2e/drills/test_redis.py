"""A managed Redis Cluster under agents that go on writing: what is acknowledged is never lost, and nobody has to help."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator

import pytest

from e2e.cluster.agents import apply, deployment, memory, ready, rolled_out
from e2e.cluster.install import SYSTEM
from e2e.cluster.redis import delete, kill_process, managed, patch, primaries, redis_pods, serves, shard_of
from e2e.cluster.shell import kubectl, kubectl_json
from e2e.cluster.wait import until
from e2e.cluster.writer import writing

REGION = "us-east-1"
INJECT = {"agentmemory.io/inject": "true"}


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[str]:
    """One Redis Cluster for all drills of this file: each leaves it healthy."""
    namespace = f"redis-{secrets.token_hex(3)}"
    await kubectl("create", "namespace", namespace)
    await apply(managed(namespace, "memory", [REGION], shards=3, stores_in="us-west-2"))
    await ready(namespace, "memory", timeout_s=300)
    agent = deployment(namespace, region=REGION)
    agent["spec"]["template"]["metadata"]["labels"] |= INJECT
    await apply(agent)
    await rolled_out(namespace, "deployment/agent")
    yield namespace
    await kubectl("delete", "namespace", namespace, "--wait=false")


async def healthy_again(namespace: str, timeout_s: float = 240) -> None:
    async def look() -> bool:
        conditions = await memory(namespace, "memory")
        assert conditions.get("RedisReady", "").startswith("True"), conditions.get("RedisReady")
        assert all(serves(pod) for pod in await redis_pods(namespace))
        return True

    await until("RedisReady", look, timeout_s=timeout_s)


async def test_the_primary_of_a_shard_is_killed(cluster: str) -> None:
    victim = (await redis_pods(cluster, REGION))[0]["metadata"]["name"]
    async with writing(cluster) as writer:
        await writer.write()
        await kill_process(cluster, victim)
        await healthy_again(cluster)
    assert not writer.refused
    await writer.check()


@pytest.mark.all
async def test_all_pods_of_a_shard_are_deleted(cluster: str) -> None:
    found = await redis_pods(cluster, REGION)
    shard = shard_of(found[0])
    async with writing(cluster) as writer:
        await delete(cluster, [pod["metadata"]["name"] for pod in found if shard_of(pod) == shard])
        await asyncio.sleep(5)
        await healthy_again(cluster)
    assert not writer.refused
    await writer.check()


async def test_all_redis_pods_are_deleted_at_once_and_come_back_with_new_addresses(cluster: str) -> None:
    async with writing(cluster) as writer:
        await delete(cluster, [pod["metadata"]["name"] for pod in await redis_pods(cluster)])
        await asyncio.sleep(5)
        await healthy_again(cluster)
    assert not writer.refused
    await writer.check()


@pytest.mark.all
async def test_shards_are_added_and_taken_away_under_writers(cluster: str) -> None:
    async with writing(cluster) as writer:
        for shards in (5, 3):
            await kubectl("-n", cluster, "patch", "agentmemory", "memory", "--type=merge", "-p", patch(shards))

            async def scaled(shards: int = shards) -> bool:
                await healthy_again(cluster, timeout_s=1)
                return len({shard_of(pod) for pod in await redis_pods(cluster, REGION)}) == shards

            await until(f"{shards} shards", scaled, timeout_s=400)
    assert not writer.refused
    await writer.check()


@pytest.mark.all
async def test_a_node_is_drained(cluster: str) -> None:
    """The one with most primaries. Its pods wait for it, for their volumes are there; the other node's serve."""
    found = await kubectl_json("get", "nodes", "-l", f"topology.kubernetes.io/region={REGION}")
    nodes = [node["metadata"]["name"] for node in found["items"]]
    assert len(nodes) == 2, (
        f"this drill needs two nodes in {REGION}, as e2e/kind-all.yaml makes them: there are {nodes}"
    )
    at = list((await primaries(cluster, REGION)).values())
    node = max(nodes, key=at.count)
    (other,) = set(nodes) - {node}
    stay = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": other}}}}}
    await kubectl("-n", cluster, "patch", "deployment", "agent", "-p", json.dumps(stay))
    await rolled_out(cluster, "deployment/agent")

    unserved: list[set[str]] = []

    async def look(drained: asyncio.Event) -> None:
        while not drained.is_set():
            pods = await redis_pods(cluster, REGION)
            unserved.append({shard_of(pod) for pod in pods} - {shard_of(pod) for pod in pods if serves(pod)})
            await asyncio.sleep(1)

    async with writing(cluster) as writer:
        await writer.more(1)
        try:
            drained = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(look(drained))
                try:
                    await kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
                finally:
                    drained.set()
            assert unserved
            assert not any(unserved), "a shard had no pod that is ready: its budget was not kept"
            waiting = [pod for pod in await redis_pods(cluster, REGION) if pod["status"]["phase"] == "Pending"]
            assert len(waiting) == 3
            assert list((await primaries(cluster, REGION)).values()) == [other] * 3
            writer.flags.clear()
            await writer.more(3)
            assert "degraded" not in writer.flags
            for deployment in ("agentmemory-operator", "agentmemory-webhook"):
                await rolled_out(SYSTEM, f"deployment/{deployment}")
        finally:
            await kubectl("uncordon", node)
        await healthy_again(cluster)
        await writer.more(1)
    assert not writer.refused
    await writer.check()
