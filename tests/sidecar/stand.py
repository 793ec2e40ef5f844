"""A sidecar in the test's own event loop: compiled from a resource, on real stores, in front of a stand-in for Claude."""

import asyncio
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from redis.asyncio import Redis

from agentmemory_sidecar.app import Address, Sidecar
from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.resource import Installation, LocalValues, SidecarConfig, compile_resource, parse
from agentmemory_sidecar.resource.store_config import PostgresStore, RedisHot
from agentmemory_sidecar.step import heads
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import ROOT, Conversation, Stored

LOOPBACK = Address("127.0.0.1", 0)
SESSION_HEADER = "X-Agent-Session"
Json = dict[str, Any]


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """``over`` laid over ``base``, objects into each other."""
    result = dict(base)
    for name, value in over.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


def configured(spec: Mapping[str, Any], *, redis: str, postgres: str, upstream: str, directory: Path) -> SidecarConfig:
    """A resource's spec, compiled for these servers. Each has a tenant of its own, so that tests may share the servers."""
    standing = {
        "tenant": f"t-{uuid.uuid4().hex[:12]}",
        "upstream": {"url": upstream},
        "session": {"identity": {"headers": [SESSION_HEADER], "userHeaders": ["X-User"]}},
    }
    resource = parse({
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": "test", "namespace": "tests"},
        "spec": merged(standing, spec),
    })  # fmt: skip
    servers = Installation(
        embedded_hot=RedisHot(urls=(redis,)), embedded_postgres=PostgresStore.model_validate({"dsn": postgres})
    )
    values = LocalValues(directory, None)
    return compile_resource(resource, resource.spec.regions[0], values=values, data_dir=directory, installation=servers)


class Stand:
    """One running sidecar, and what a test looks at behind its back."""

    def __init__(self, config: SidecarConfig, *, pod: str = "") -> None:
        self.config = config
        self.sidecar = Sidecar(config, pod=pod)
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> "Stand":
        await self.sidecar.start(LOOPBACK, LOOPBACK)
        self._http = aiohttp.ClientSession(f"http://{self.sidecar.admin_address}")
        return self

    async def stop(self, drain_s: float = 5.0) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None
            await self.sidecar.stop(drain_s)

    @property
    def url(self) -> str:
        return f"http://{self.sidecar.address}"

    @property
    def services(self) -> Services:
        return self.sidecar.services

    # ------------------------------------------------------------------------------------------------ what is stored

    async def settled(self) -> None:
        """Wait for everything that steps left to be done in the background."""
        while len(self.services.tasks):
            await self.services.tasks.drain(10)

    async def stored(self, session: str, agent: str = ROOT) -> Stored:
        return await self.services.state.read(Conversation(self.config.tenant, session, agent))

    async def item(self, session: str, agent: str = ROOT) -> Item:
        return heads.whole(self.config, self.services.state.head, await self.stored(session, agent))

    async def turn(self, session: str, agent: str = ROOT) -> int:
        """How many steps of the conversation are committed."""
        return (await self.stored(session, agent)).versions.turn

    async def state(self, session: str) -> Json:
        """The session's state object; empty for none."""
        data = (await self.item(session)).state
        found: Json = msgspec.json.decode(data) if data else {}
        return found

    async def sub_tasks(self, session: str) -> list[str]:
        found: list[str] = (await self.state(session)).get("active_mission", {}).get("sub_tasks", [])
        return found

    async def is_free(self, session: str, agent: str = ROOT) -> bool:
        """Whether nobody holds the conversation's lock in the hot tier."""
        return not any(lock.endswith(_suffix(agent)) for lock in await self.locks(session))

    async def locks(self, session: str) -> list[str]:
        """The names of the session's locks that are held."""
        async with self.redis() as client:
            return [key.decode() async for key in client.scan_iter(f"lock:sess:*{session}*")]

    async def acknowledged(self, session: str) -> None:
        """Wait until the hot tier knows that the session's last reply arrived (a mark that is written a moment later)."""
        last = (await self.item(session)).last
        assert last is not None
        async with self.redis() as client:
            while True:
                keys = [key async for key in client.scan_iter(f"ack:sess:*{session}*")]
                if keys and last.step.encode() in await client.mget(keys):
                    return
                await asyncio.sleep(0.01)

    async def forget_hot(self) -> None:
        """Empty the hot tier of everything that is this tenant's."""
        async with self.redis() as client:
            keys = [key async for key in client.scan_iter(f"*{{{self.config.tenant}/*")]
            assert keys
            await client.delete(*keys)

    def redis(self) -> "Redis":
        """A client of the hot tier."""
        assert isinstance(self.config.hot, RedisHot)
        return Redis.from_url(self.config.hot.urls[0])

    # ------------------------------------------------------------------------------------------------------ admin API

    async def admin(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body. ``token`` None: the right one; empty: none."""
        assert self._http is not None
        given = self.sidecar.token if token is None else token
        sent = {**({"authorization": f"Bearer {given}"} if given else {}), **(headers or {})}
        body = data if isinstance(data, bytes) or data is None else msgspec.json.encode(data)
        async with self._http.request(method, path, headers=sent, data=body) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return response.status, found, await response.read()

    async def remember(self, session: str, changes: Json) -> None:
        """Change the session's state by hand."""
        headers = {"if-match": "*", "content-type": "application/merge-patch+json"}
        status, _, body = await self.admin("PATCH", f"/v1/sessions/{session}/state", headers=headers, data=changes)
        assert status == 200, body

    async def records(self, session: str, agent: str = ROOT, *, export: bool = False) -> list[Json]:
        """The conversation's archive records; with ``export`` the session's, with their blobs."""
        path = f"/v1/sessions/{session}/" + ("export" if export else f"history?agent={agent}")
        status, _, body = await self.admin("GET", path)
        assert status == 200, body
        return [msgspec.json.decode(line) for line in body.splitlines()]

    async def explain(self, session: str, turn: str) -> Json:
        """What the admin API says of a turn's prompt."""
        status, _, body = await self.admin("GET", f"/v1/sessions/{session}/explain/{turn}")
        assert status == 200, body
        found: Json = msgspec.json.decode(body)
        return found

    def metric(self, name: str, **labels: str) -> float:
        """A counter's value; 0 where it never counted."""
        return self.services.metrics.registry.get_sample_value(f"agentmemory_{name}_total", labels) or 0.0

    def gauge(self, name: str) -> float:
        """A gauge's value."""
        found = self.services.metrics.registry.get_sample_value(f"agentmemory_{name}")
        assert found is not None, name
        return found


def _suffix(agent: str) -> str:
    return "}" if agent == ROOT else f":agent:{agent}"
