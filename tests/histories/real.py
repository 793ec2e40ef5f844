"""The stores of a history as real servers (:mod:`.standins`), in real time.

What is lost, refused or held back goes that way on a socket (:mod:`.ways`); who wins between two regions, and when a region
hears of another's write, the front decides, as global tables do. A history's seconds pass at ``Setting.pace``.
"""

import asyncio
import base64
import contextvars
import json
import random
import time
from dataclasses import dataclass, replace
from typing import Any, cast

from redis.asyncio import Redis

from agentmemory_sidecar.stores import dynamodb_table as layout
from agentmemory_sidecar.stores.opened import Stores
from agentmemory_sidecar.stores.protocols import Conversation, KeyShelf, Stored, Versions
from agentmemory_sidecar.stores.redis import RedisHotStore, RedisOptions
from tests.aws.items import Key
from tests.aws.tests.clients import Client
from tests.faults import FaultProxy
from tests.histories.ground import Clock
from tests.histories.history import Result, play
from tests.histories.links import Link
from tests.histories.plan import REGIONS, Plan
from tests.histories.standins import TABLE, StandIns
from tests.histories.table import HeadRow, Row, Table
from tests.histories.watch import Watcher
from tests.histories.ways import Linked, LinkedObjects, LinkedState, Way
from tests.histories.world import HOT_TTL_S, Setting

PACE = 0.25
EMPTIED_EVERY = 10
"""Histories until the servers are emptied: each has a tenant of its own."""
HOT_DEADLINE_S = 2.0
BLACK_HOLES = 0.3
"""How often a store that goes away does not answer, rather than refuse."""
SLOW_S = 0.3


async def run(servers: StandIns, plan: Plan, *, pace: float = PACE) -> Result:
    """Run a history on these servers. The caller has entered ``world.numbered``."""
    if servers.runs and servers.runs % EMPTIED_EVERY == 0:
        await servers.empty()
    servers.runs += 1
    setting = replace(plan.setting, tenant=f"t{servers.runs}", pace=pace)
    ground = RealGround(servers, setting, plan.seed)
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    try:
        await ground.calm()
        return await play(replace(plan, setting=setting), ground, failures)
    finally:
        loop.set_exception_handler(before)


@dataclass(frozen=True)
class _Meant:
    """A write that was sent, and by whom."""

    expect: Versions
    new: Versions
    context: contextvars.Context


class RealGround:
    """:class:`~tests.histories.ground.Ground` of one history."""

    def __init__(self, servers: StandIns, setting: Setting, seed: int) -> None:
        self._servers, self._setting, self._front = servers, setting, servers.front
        self._rng = random.Random(f"{seed}/ground")
        self.table = Table(setting.regions, asyncio.get_running_loop())
        self.watcher = Watcher(self.table)
        self._meant: dict[tuple[Conversation, str, Versions, bytes], _Meant] = {}
        self._taken = 0
        self._dumps: dict[str, list[tuple[bytes, int, bytes]]] = {}
        self._front.items.told = self._told
        self._front.items.skew_s.clear()
        self._front.links.set(lag_s=setting.lag_s * setting.pace)

    @staticmethod
    def now() -> float:
        return time.time()

    def stores(self, region: str, endpoint: str, link: Link, clock: Clock, *, failover: bool) -> Stores:
        link.slow_s = SLOW_S
        others = [other for other in self._setting.regions if failover and other != endpoint]
        proxy = self._servers.proxies[region, "hot"]
        valkey = self._servers.valkeys[region].server
        options = RedisOptions(
            urls=(f"redis://:{valkey.password}@{proxy.host}:{proxy.port}",),
            timeout_s=HOT_DEADLINE_S,
            hot_ttl_s=HOT_TTL_S * self._setting.pace,
        )
        hot = Linked(RedisHotStore(options), Way(link, "hot", proxy), own=True)
        state, shelf = self._state(region, endpoint, link, "state")
        records, blobs = (
            LinkedObjects(self._servers.objects[region, kind], Way(link, kind, self._servers.proxies[region, kind]))
            for kind in ("records", "blobs")
        )
        elsewhere = tuple(self._state(region, other, link, f"elsewhere-{other}") for other in others)
        return Stores(cast("Any", hot), state, records, blobs, shelf=shelf, elsewhere=elsewhere)  # type: ignore[arg-type]

    def _state(self, region: str, endpoint: str, link: Link, name: str) -> Any:
        store = self._servers.states[region, endpoint]
        way = Way(link, name, self._servers.proxies[region, endpoint])
        return LinkedState(store, way, endpoint, self), Linked(store.shelf, way)

    # ---------------------------------------------------------------------------------------- what the front is told

    def means(self, head: str, conversation: Conversation, body: bytes, expect: Versions, new: Versions) -> None:
        meant = _Meant(expect, new, contextvars.copy_context())
        self._meant[conversation, head, Versions(new.turn, new.version), body] = meant

    def _told(self, region: str, key: Key, image: dict[str, Any] | None) -> None:
        """A replica has taken an item: the copy takes it too, and a write of a sidecar's is shown to the watcher."""
        names = json.loads(key[1])
        pk, sk = names["pk"]["S"], names["sk"]["S"]
        if "#" in pk.partition("/")[0] or image is None or "version" not in image:
            return
        agent, _, head = layout.split(sk)
        conversation = layout.conversation(pk, agent)
        if conversation.tenant != self._setting.tenant or region not in self.table.replicas:
            return
        body = base64.b64decode(image["body"]["B"]) if "body" in image else None
        row = HeadRow(
            int(image["turn"]["N"]), int(image["version"]["N"]), body, "pending" in image,
            token=image.get("lock_token", {}).get("S", ""), until=float(image.get("lock_until", {}).get("N", 0)),
        )  # fmt: skip
        name = ("head", conversation.tenant, conversation.session, conversation.agent, head)
        before = self.table.replicas[region].get(name)
        self._taken += 1
        self.table.replicas[region].put(name, Row(row, (self._taken, region)))
        if body is None or region != head:
            return
        meant = self._meant.pop((conversation, head, row.versions, body), None)
        if meant is not None:
            meant.context.run(self.watcher.wrote, head, conversation, meant.expect, meant.new, body)
        elif before is None or before.body != body:
            self.watcher.violations.append(f"nobody meant to write {row.versions} of head {head}")

    # ------------------------------------------------------------------------------------------------- what may happen

    def part(self, one: str, other: str) -> None:
        self._cut(one, other, cut=True)

    def heal(self, region: str = "", other: str = "") -> None:
        self._cut(region or "*", other or "*", cut=False)

    def _cut(self, one: str, other: str, *, cut: bool) -> None:
        self._front.links.set(one, other, cut=cut)
        self._front.links.set(other, one, cut=cut)

    def isolate(self, region: str) -> None:
        self._front.links.isolate(region)
        for proxy in self._across(region):
            proxy.blackhole()

    async def rejoin(self, region: str) -> None:
        self.heal(region)
        for proxy in self._across(region):
            await proxy.heal()

    def _across(self, region: str) -> list[FaultProxy]:
        ways = ((here, there) for here in REGIONS for there in REGIONS if (here == region) != (there == region))
        return [self._servers.proxies[way] for way in ways]

    async def down(self, region: str, store: str) -> None:
        proxy = self._way(region, store)
        if self._rng.random() < BLACK_HOLES:
            proxy.blackhole()
        else:
            await proxy.refuse()

    async def up(self, region: str, store: str) -> None:
        await self._way(region, store).heal()

    def _way(self, region: str, store: str) -> FaultProxy:
        return self._servers.proxies[region, region if store == "state" else store]

    async def redis(self, region: str, way: str) -> None:
        server = self._servers.valkeys[region]
        async with Redis.from_url(server.url) as client:
            match way:
                case "dump":
                    self._dumps[region] = await _dump(client, self._keys("[!l]*"))
                case "rewind":
                    await client.flushall()
                    for key, ttl_ms, data in self._dumps.pop(region, []):
                        await client.restore(key, ttl_ms, data)
                case "lose":
                    await client.flushall()
        if way in ("lose", "restart"):
            await server.kill()
            await server.restart()

    def _keys(self, kind: str) -> str:
        return f"{kind}:sess:{{{self._setting.tenant}/*"

    def skew(self, region: str, seconds: float) -> None:
        self._front.items.skew_s[region] = seconds

    async def calm(self) -> None:
        self._front.links.heal()
        for proxy in self._servers.proxies.values():
            await proxy.heal()

    @property
    def settled(self) -> bool:
        return not self._front.links.pending()

    # ------------------------------------------------------------------------------------------------- what is there

    async def read(self, region: str, conversation: Conversation) -> Stored:
        return await self._servers.direct[region][0].read(conversation)

    def shelf(self, region: str) -> KeyShelf:
        return self._servers.direct[region][0].shelf

    async def records(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for region in self._setting.regions:
            store = self._servers.direct[region][1]
            async for key in store.keys(f"{self._setting.tenant}/"):
                if key not in found:
                    data = await store.get(key)
                    assert data is not None
                    found[key] = data
        return found

    async def differences(self) -> list[str]:
        first, *others = [await self._items(region) for region in self._setting.regions]
        return [
            f"{key} of {region} differs from that of {self._setting.regions[0]}"
            for region, items in zip(self._setting.regions[1:], others, strict=True)
            for key in sorted(first.keys() | items.keys())
            if first.get(key) != items.get(key)
        ]

    async def _items(self, region: str) -> dict[str, Any]:
        """All items of this history, as the region's process has them, by key."""
        tenant = self._setting.tenant
        ours = (f"{tenant}/", f"index#{tenant}#", f"keys#{tenant}#")
        client = Client(self._front, "dynamodb", region)
        found: dict[str, Any] = {}
        start: dict[str, Any] = {}
        while True:
            page = await client.scan(TableName=TABLE, ConsistentRead=True, **start)
            found |= {
                f"{item['pk']['S']} {item['sk']['S']}": item
                for item in page["Items"]
                if item["pk"]["S"].startswith(ours)
            }
            if "LastEvaluatedKey" not in page:
                return found
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def locks(self) -> list[str]:
        found = []
        for region in self._setting.regions:
            async with Redis.from_url(self._servers.valkeys[region].url) as client:
                found += [f"a lock is left in {region}: {key!r}" async for key in client.scan_iter(self._keys("lock"))]
            for key, row in self.table.replicas[region].rows.items():
                if key[-1] == region and row.value.token and row.value.until > self.now():
                    found.append(f"an item lock is left in {region} on {key[2]}")
        return found


async def _dump(client: Redis, pattern: str) -> list[tuple[bytes, int, bytes]]:
    """Key, milliseconds left and value of each key."""
    found = []
    async for key in client.scan_iter(pattern):
        ttl_ms, data = await client.pttl(key), await client.dump(key)
        if data is not None and ttl_ms > 0:
            found.append((key, ttl_ms, data))
    return found
