"""Two sidecars on the same stores, with the strict Claude behind them, in a tenant of their own."""

import asyncio
import contextlib
import itertools
import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from redis.asyncio import Redis

from agentmemory_sidecar.app import Address, Sidecar
from agentmemory_sidecar.resource import LocalValues, SidecarConfig, compile_resource
from agentmemory_sidecar.stores.health import Cooldown
from agentmemory_sidecar.stores.opened import Stores
from agentmemory_sidecar.stores.postgres import PostgresObjectStore, PostgresOptions, PostgresStateStore, migrate
from agentmemory_sidecar.stores.protocols import ROOT, Conversation
from agentmemory_sidecar.stores.redis import RedisHotStore, RedisOptions
from tests.claude import StrictClaude
from tests.sidecar.faults.agent import Agent, Attempt
from tests.sidecar.faults.stores import Faults, faulty_stores
from tests.sidecar.resource.resources import resource

SPEC = """
ephemeral: {timeout: 5s}
state: {timeout: 10s}
archive: {timeout: 10s, blobs: {threshold: 1Ki}}
session: {identity: {headers: [X-Agent-Session]}}
filter: {strategy: Lexical, budgetTokens: 200, pinned: [/active_mission/sub_tasks, /extracted_context/notes]}
extraction:
  rules:
  - {tools: [note], when: Call, from: /text, to: /extracted_context/notes, op: Append}
  - {tools: [sub_note], when: Call, from: /text, to: /extracted_context/sub_notes, op: Append}
"""
LOCAL = Address("127.0.0.1", 0)
_pods = itertools.count(1)


@dataclass
class Backend:
    """The real stores, open, and clients that look at what they hold."""

    stores: Stores
    redis: Redis
    postgres: asyncpg.Pool
    http: aiohttp.ClientSession
    claude: StrictClaude


@contextlib.asynccontextmanager
async def open_backend(
    redis_url: str, dsn: str, claude: StrictClaude, *, hot_timeout_s: float = 5, state_timeout_s: float = 10
) -> AsyncIterator[Backend]:
    """One of these serves any number of worlds."""
    options = PostgresOptions(dsn, pool_size=8, timeout_s=state_timeout_s)
    await migrate(options)
    state = PostgresStateStore(options)
    records, blobs = PostgresObjectStore(options, "records"), PostgresObjectStore(options, "blobs")
    hot = RedisHotStore(RedisOptions(urls=(redis_url,), timeout_s=hot_timeout_s))
    stores = Stores(hot, state, records, blobs)
    async with (
        Redis.from_url(redis_url) as redis,
        asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        try:
            yield Backend(stores, redis, pool, http, claude)
        finally:
            await stores.close()


def config_for(tenant: str, claude: StrictClaude, directory: Path, spec: str = SPEC) -> SidecarConfig:
    config = compile_resource(resource(spec), "local", values=LocalValues(Path()), data_dir=directory)
    upstream = config.upstream.model_copy(update={"url": claude.url})
    return config.model_copy(update={"tenant": tenant, "upstream": upstream})


def with_lock(config: SidecarConfig, ttl_s: float, **changes: Any) -> SidecarConfig:
    """With a lock of so many seconds, which the resource's own lower limit does not allow."""
    lock = config.lock.model_copy(update={"ttl_s": ttl_s, "renew_s": ttl_s / 3, **changes})
    return config.model_copy(update={"lock": lock})


class Node:
    """One sidecar that can be killed. ``faults`` stand between it and the stores."""

    def __init__(self, config: SidecarConfig, backend: Backend, pause_s: float) -> None:
        self.faults = Faults(pause_s)
        self.sidecar = Sidecar(config, pod=f"pod-{next(_pods)}", stores=faulty_stores(backend.stores, self.faults))

    @property
    def url(self) -> str:
        return f"http://{self.sidecar.address}"

    @property
    def alive(self) -> bool:
        return not self.faults.killed.is_set()

    async def start(self) -> None:
        await self.sidecar.start(LOCAL, LOCAL)
        # A tier that failed is asked again soon: a history is short.
        self.sidecar.services.hot_health = Cooldown(0.05)
        self.sidecar.services.blob_health = Cooldown(0.05)

    async def bury(self) -> None:
        """End what is left of it, with no effect on the stores any more."""
        self.faults.killed.set()
        await self.sidecar.services.tasks.close()
        await self.sidecar.stop(0)

    async def stop(self) -> None:
        self.faults.clear()
        await self.sidecar.stop()


@dataclass
class Patched:
    """An administrator's change, and whether it was acknowledged (None: unknown)."""

    name: str
    acknowledged: bool | None


@dataclass(eq=False)
class World:
    """A session, its sidecars, and everything that clients saw."""

    backend: Backend
    config: SidecarConfig
    nodes: list[Node]
    session: str
    buried: list[Faults] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    patches: list[Patched] = field(default_factory=list)
    replacing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def agent(self, name: str = "", *, thinking: bool = True) -> Agent:
        """A client without history; ``name``: a subagent's."""
        agent = Agent(self.backend.http, self.session, name, thinking=thinking)
        agent.attempts = self.attempts
        return agent

    def conversation(self, agent: str = "") -> Conversation:
        return Conversation(self.config.tenant, self.session, agent or ROOT)

    @property
    def faults(self) -> list[Faults]:
        return [*self.buried, *(node.faults for node in self.nodes)]

    async def send(self, agent: Agent, node: Node, **how: Any) -> Attempt:
        """One attempt, with the item's version noted before it."""
        versions = await self.backend.stores.state.versions(self.conversation(agent.agent))
        return await agent.send(node.url, node.faults.killed, least_version=versions.version, **how)

    async def turn(self, agent: Agent, node: Node, text: str, **how: Any) -> list[Attempt]:
        """A whole turn without a retry; stops at the first attempt that fails."""
        agent.ask(text)
        done = [await self.send(agent, node, **how)]
        while done[-1].acknowledged and agent.take(done[-1]):
            done.append(await self.send(agent, node, **how))
        return done

    async def patch(self, node: Node, name: str) -> Patched:
        """An administrator sets ``/extracted_context/admin/<name>``."""
        patched = Patched(name, None)
        self.patches.append(patched)
        sidecar = node.sidecar
        headers = {
            "authorization": f"Bearer {sidecar.token}",
            "if-match": "*",
            "content-type": "application/merge-patch+json",
        }
        url = f"http://{sidecar.admin_address}/v1/sessions/{self.session}/state"
        body = {"extracted_context": {"admin": {name: True}}}
        with contextlib.suppress(aiohttp.ClientError):
            async with self.backend.http.patch(url, json=body, headers=headers) as response:
                await response.read()
                if node.alive:
                    patched.acknowledged = True if response.status == 200 else None
        return patched

    async def replace_killed(self) -> None:
        """Bury killed sidecars and start others in their places."""
        async with self.replacing:
            for index, node in enumerate(self.nodes):
                if not node.alive:
                    self.buried.append(node.faults)
                    await node.bury()
                    fresh = Node(self.config, self.backend, node.faults.pause_s)
                    await fresh.start()
                    self.nodes[index] = fresh

    # ------------------------------------------------------------------------------------------------- the hot tier

    def _tag(self) -> str:
        return f"{{{self.config.tenant}/{self.session}}}"

    async def keys(self, kind: str = "*") -> list[bytes]:
        """Redis keys of this session: ``lock``, ``hot``, ``ledger`` …"""
        return [key async for key in self.backend.redis.scan_iter(f"{kind}:sess:{self._tag()}*", count=1000)]

    async def empty_hot(self) -> None:
        """Redis came back without its data."""
        if keys := await self.keys():
            await self.backend.redis.delete(*keys)

    async def dump_hot(self) -> dict[bytes, bytes]:
        """What a snapshot of Redis would hold of this session."""
        found = {key: await self.backend.redis.dump(key) for key in await self.keys() if not key.startswith(b"lock")}
        return {key: data for key, data in found.items() if data is not None}

    async def restore_hot(self, dump: dict[bytes, bytes]) -> None:
        """Redis came back with old data, by the same name: the hardest case, for its run id tells nothing."""
        await self.empty_hot()
        for key, data in dump.items():
            await self.backend.redis.restore(key, 60_000, data, replace=True)

    async def item_locks(self) -> int:
        """Locks held on state items (Degraded mode)."""
        sql = "SELECT count(*) FROM agentmemory.items WHERE tenant = $1 AND lock_until > clock_timestamp()"
        count: int = await self.backend.postgres.fetchval(sql, self.config.tenant)
        return count

    async def stop(self) -> None:
        for node in self.nodes:
            await (node.stop() if node.alive else node.bury())


@contextlib.asynccontextmanager
async def open_world(
    backend: Backend, *, nodes: int = 2, ttl_s: float = 60.0, pause_s: float = 0.0, spec: str = SPEC, **lock: Any
) -> AsyncIterator[World]:
    """``ttl_s``: the lock's. ``pause_s``: how long a paused process stands still."""
    name = uuid.uuid4().hex[:12]
    with tempfile.TemporaryDirectory(prefix="agentmemory-keys-") as directory:
        config = with_lock(config_for(f"t-{name}", backend.claude, Path(directory), spec), ttl_s, **lock)
        world = World(backend, config, [Node(config, backend, pause_s) for _ in range(nodes)], f"s-{name}")
        for node in world.nodes:
            await node.start()
        try:
            yield world
        finally:
            await world.stop()
