"""A managed Redis Cluster under agents that go on writing: what is acknowledged is never lost, and nobody has to help."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from e2e.cluster.agents import apply, ask, deployment, memory, ready, rolled_out
from e2e.cluster.redis import delete, kill_process, managed, patch, redis_pods, shard_of
from e2e.cluster.shell import Failed, kubectl
from e2e.cluster.wait import until

REGION = "us-east-1"
INJECT = {"agentmemory.io/inject": "true"}


@dataclass(slots=True)
class Writer:
    """Tells one fact after another, each in a session of its own, as an agent does: what is refused is said again."""

    namespace: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    async def write(self) -> None:
        session, fact = f"w-{secrets.token_hex(6)}", secrets.token_hex(4)
        try:
            await ask(self.namespace, session, f"The code word of the launch is {fact}.")
        except Failed as error:
            self.refused.append(str(error)[-600:])
            return
        self.acknowledged[session] = fact

    async def check(self) -> None:
        """Everything acknowledged is known, by a pod that has never seen it."""
        for session, fact in self.acknowledged.items():
            known = await ask(self.namespace, session, "What is the code word of the launch?")
            assert fact in known.answer, (session, fact, known)


@asynccontextmanager
async def writing(namespace: str) -> AsyncIterator[Writer]:
    writer, stop = Writer(namespace), asyncio.Event()

    async def go_on() -> None:
        while not stop.is_set():
            await writer.write()

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on())
        try:
            yield writer
        finally:
            stop.set()


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[str]:
    """One Redis Cluster for all drills of this file: each leaves it healthy."""
    namespace = f"redis-{secrets.token_hex(3)}"
    await kubectl("create", "namespace", namespace)
    await apply(managed(namespace, "memory", [REGION], shards=3))
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
        assert all(all(row["ready"] for row in pod["status"].get("containerStatuses", [{"ready": False}]))
                   for pod in await redis_pods(namespace))  # fmt: skip
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
