"""The topology planner and its effects on real servers."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from agentmemory_operator.plan.redis.values import Cluster, Shape
from agentmemory_operator.plan.redis.view import View, node
from tests.operator.redis_servers import Server, Servers

Make = Callable[[Shape], Servers]


@pytest.fixture
async def make(servers_directory: Path, tmp_path: Path, worker_id: str) -> AsyncIterator[Make]:
    if not shutil.which("redis-server"):
        if os.environ.get("AGENTMEMORY_TEST_NO_APT") == "1":
            pytest.skip("redis-server is not installed, and AGENTMEMORY_TEST_NO_APT=1 says that it need not be")
        pytest.fail("redis-server is not installed: run `apt-get install redis-server`")
    made: list[Servers] = []
    network = 1 + int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0

    def servers(shape: Shape) -> Servers:
        made.append(
            Servers(servers_directory / f"operator-{tmp_path.name}-{len(made)}", network * 8 + len(made), shape)
        )
        return made[-1]

    yield servers
    for each in made:
        await each.links.close()
        each.close()


SCRIPT = "redis.call('HSET', KEYS[1], 'f', ARGV[1]) redis.call('PEXPIRE', KEYS[1], 86400000) return 1"
"""As sidecars write: a server reads it back from its file as a transaction."""


class Writer:
    """Writes keys, and knows which were acknowledged."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.acknowledged: set[str] = set()
        self.failures: list[str] = []
        self.writing = True

    def client(self) -> RedisCluster:
        addresses = {f"{s.name}.redis.test.svc": s.address for s in self._servers.servers.values()}
        host = next(s.address for s in self._servers.servers.values() if s.running)
        return RedisCluster(
            host=host,
            port=6379,
            username="writer",
            password="writer",
            ssl=True,
            ssl_ca_data=self._servers.ca_pem,
            ssl_check_hostname=False,  # the test has no resolver: it maps names to addresses itself
            address_remap=lambda address: (addresses.get(address[0], address[0]), address[1]),
        )

    async def run(self) -> None:
        number = 0
        async with self.client() as client:
            while self.writing:
                key = f"ledger:sess:{{t/s{number}}}"
                number += 1
                try:
                    await client.eval(SCRIPT, 1, key, "x" * 100)
                except (RedisError, RedisClusterException, OSError, AttributeError) as error:
                    # AttributeError: redis-py 8.1 has it where it describes a connection that it did not get.
                    self.failures.append(str(error))
                else:
                    self.acknowledged.add(key)
                await asyncio.sleep(0.001)

    async def missing(self) -> set[str]:
        async with self.client() as client:
            return {key for key in self.acknowledged if not await client.exists(key)}

    @contextlib.asynccontextmanager
    async def during(self) -> AsyncIterator[None]:
        self.writing = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.run())
            try:
                yield
            finally:
                self.writing = False


def owned(cluster: Cluster, shape: Shape) -> dict[int, int]:
    """Slots by shard."""
    found: dict[int, int] = {}
    for pod in View(cluster, shape).owner.values():
        found[pod.shard] = found.get(pod.shard, 0) + 1
    return found


def primaries(servers: Servers, cluster: Cluster) -> list[Server]:
    return [servers.servers[pod.name] for pod in cluster.reachable if node(pod).is_primary and node(pod).slots]


async def whole(servers: Servers) -> Cluster:
    """The cluster, after checking that it is whole, and that nothing that empties a node was done."""
    cluster = await servers.observe()
    view = View(cluster, servers.shape)
    assert len(view.owner) == 16384
    for shard in range(servers.shape.shards):
        pods = view.shard(shard)
        primary = view.primary(shard)
        assert primary is not None
        assert len(pods) == servers.shape.replicas + 1
        assert all(node(pod).me.primary == node(primary).id and node(pod).link_up for pod in pods if pod is not primary)
    assert not view.orphans
    return cluster


async def fill(servers: Servers, count: int = 500) -> Writer:
    writer = Writer(servers)
    async with writer.during():
        async with asyncio.timeout(60):
            while len(writer.acknowledged) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    return writer


async def test_forms_fails_over_and_heals_after_every_address_has_changed(make: Make) -> None:
    servers = make(Shape(3, 1))
    await servers.form()
    cluster = await whole(servers)
    assert owned(cluster, servers.shape) == {0: 5462, 1: 5461, 2: 5461}
    writer = await fill(servers)
    await asyncio.sleep(1.5)  # the file is synced each second

    # A primary dies and comes back elsewhere: its replica has taken over, it follows.
    victim = primaries(servers, cluster)[0]
    servers.kill(victim)
    cluster = await servers.observe()
    async with asyncio.timeout(60):
        while len(primaries(servers, cluster)) < 3 or not all(node(p).cluster_ok for p in cluster.reachable):
            await asyncio.sleep(0.2)
            cluster = await servers.observe()
    servers.start(victim)
    await servers.until_whole()
    cluster = await whole(servers)
    assert victim not in primaries(servers, cluster)
    assert not await writer.missing()

    # All die at once, and come back with new addresses.
    servers.done.clear()
    servers.restart(*servers.servers.values())
    await servers.until_whole()
    await whole(servers)
    assert any("CLUSTER MEET" in line for line in servers.done)
    assert not await writer.missing()


async def test_moves_slots_out_and_in_while_somebody_writes(make: Make) -> None:
    servers = make(Shape(3, 1))
    await servers.form()
    writer = await fill(servers)
    async with writer.during():
        servers.shape = Shape(5, 1)
        for shard in (3, 4):
            for ordinal in (0, 1):
                servers.add(shard, ordinal)
        # Interrupted in the middle, by an operator that dies with slots open: the next one goes on from what it finds.
        async with asyncio.timeout(90):
            while not any("move slots" in line for line in servers.done):
                await servers.step()
                await asyncio.sleep(0.1)
        cluster = await servers.observe()
        assert cluster.complete
        view = View(cluster, servers.shape)
        source, target = view.primary(0), view.primary(4)
        assert source is not None
        assert target is not None
        slot = min(node(source).slots)
        await servers.links[target.name].do(("CLUSTER", "SETSLOT", slot, "IMPORTING", node(source).id))
        await servers.links[source.name].do(("CLUSTER", "SETSLOT", slot, "MIGRATING", node(target).id))
        await servers.until_whole(180)
        cluster = await whole(servers)
        assert sorted(owned(cluster, servers.shape).values()) == [3276, 3277, 3277, 3277, 3277]
    assert not await writer.missing()

    async with writer.during():
        servers.shape = Shape(3, 1)
        await servers.until_whole(180)
        cluster = await whole(servers)
    assert len(cluster.pods) == 6
    assert sorted(owned(cluster, servers.shape).values()) == [5461, 5461, 5462]
    assert not await writer.missing()


async def test_rolls_replicas_first_and_primaries_after_a_failover(make: Make) -> None:
    servers = make(Shape(3, 1))
    await servers.form()
    cluster = await whole(servers)
    before = {server.name for server in primaries(servers, cluster)}
    writer = await fill(servers)
    for server in servers.servers.values():
        server.outdated = True
    servers.done.clear()
    async with writer.during():
        await servers.until_whole(180)
    await whole(servers)
    deleted = [line.split()[2].removeprefix("test/") for line in servers.done if line.startswith("delete Pod")]
    assert sorted(deleted) == sorted(servers.servers)
    assert not before & set(deleted[:3])
    for name in deleted[3:]:
        at = next(place for place, line in enumerate(servers.done) if line.startswith(f"delete Pod test/{name}"))
        assert "CLUSTER FAILOVER" in servers.done[at - 1]
        assert f"{name} steps down" in servers.done[at - 1]
    assert not await writer.missing()


async def test_a_primary_without_its_volume_never_comes_back_as_an_empty_primary(make: Make) -> None:
    servers = make(Shape(3, 1))
    await servers.form()
    cluster = await whole(servers)
    writer = await fill(servers)
    await asyncio.sleep(1)
    first, second, _ = primaries(servers, cluster)

    # Only its data is gone: the gate lets it in as a new node.
    servers.kill(first)
    shutil.rmtree(first.data / "appendonlydir")
    servers.start(first)
    await servers.until_whole()
    cluster = await whole(servers)
    assert (first.data / "nodes.conf.without-data").exists()
    assert first not in primaries(servers, cluster)
    assert not await writer.missing()

    # The majority of the primaries loses its volumes at once: nobody could be elected, so the replicas take over.
    lost = primaries(servers, cluster)[:2]
    servers.kill(*lost)
    for server in lost:
        servers.lose(server)
        servers.start(server)
    await servers.until_whole()
    cluster = await whole(servers)
    assert any("TAKEOVER" in line for line in servers.done)
    assert not set(lost) & set(primaries(servers, cluster))
    assert not await writer.missing()
    assert second.running


async def test_waits_for_a_human_where_a_majority_is_away_and_may_come_back(make: Make) -> None:
    servers = make(Shape(3, 1))
    await servers.form()
    cluster = await whole(servers)
    away = primaries(servers, cluster)[:2]
    servers.kill(*away)
    servers.done.clear()
    reasons = set()
    async with asyncio.timeout(30):
        while "DataAtRisk" not in reasons:
            decision = await servers.step()
            assert decision is not None
            assert not decision.serving
            reasons.add(decision.reason.value)
            await asyncio.sleep(0.2)
    assert servers.done == []
    for server in away:
        servers.start(server)
    await servers.until_whole()
    await whole(servers)


async def test_the_pods_script_answers_probes_and_hands_over(make: Make) -> None:
    servers = make(Shape(3, 1))
    await servers.form()
    cluster = await whole(servers)
    primary = primaries(servers, cluster)[0]
    script = next(primary.directory.glob("config-*")) / "node.sh"

    async def run(word: str, server: Server) -> int:
        call = ["/bin/sh", str(script), word]
        return (await asyncio.to_thread(subprocess.run, call, env=servers.environment(server), check=False)).returncode

    for server in servers.servers.values():
        assert await run("alive", server) == 0
        assert await run("ready", server) == 0
    assert await run("stop", primary) == 0
    cluster = await servers.observe()
    assert primary not in primaries(servers, cluster)
    assert len(primaries(servers, cluster)) == 3
    servers.kill(primary)
    assert await run("alive", primary) != 0
    assert await run("ready", primary) != 0
