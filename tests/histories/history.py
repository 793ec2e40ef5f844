"""Runs one plan, lets everything settle, and checks what must hold."""

import asyncio
import traceback
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agentmemory_sidecar.stores.protocols import StoreUnavailable
from tests.histories import loop as virtual_loop
from tests.histories.checks import check
from tests.histories.claude import DIRECTIVE, Directive
from tests.histories.client import Attempt, Client, Outcome
from tests.histories.hot import Kept
from tests.histories.links import Kind, Planned
from tests.histories.loop import VirtualLoop
from tests.histories.plan import Event, Plan
from tests.histories.world import LOCK_TTL_S, World

MOST_TRIES = 5
PERSISTENT = 60
SETTLE_S = 2_000.0
"""What has not settled by then never will."""


@dataclass
class Result:
    """What came of a history."""

    plan: Plan
    problems: list[str]
    told: list[str]
    attempts: int = 0
    acknowledged: int = 0
    dropped: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.problems)


@dataclass
class History:
    """One run of a plan."""

    plan: Plan
    world: World
    clients: list[Client]
    turns: list[asyncio.Lock]
    dumps: dict[str, Any] = field(default_factory=dict)
    asked: int = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        running: list[asyncio.Task[None]] = []
        for event in self.plan.events:
            if (left := begin + event.at - loop.time()) > 0:
                await asyncio.sleep(left)
            self.world.tell(str(event)[10:] if event.what != "turn" else f"turn of client {event.how['client']}")
            if event.what == "turn":
                running.append(loop.create_task(self.turn(**event.how)))
            else:
                getattr(self, event.what)(**event.how)
        await asyncio.gather(*running)
        await self.settle()

    # ---------------------------------------------------------------------------------------------------------- turns

    async def turn(
        self,
        client: int,
        tools: list[list[str]],
        route: list[tuple[str, int]],
        wait_s: float,
        stream: bool = False,
        claude: str = "",
        leave_after_s: float | None = None,
        double: tuple[str, int] | None = None,
        keep_half: bool = False,
        fresh: bool = False,
    ) -> None:
        """A turn of a client that tries again, perhaps elsewhere, keeps half a reply, or takes its question back."""
        async with self.turns[client]:
            who = self.clients[client]
            if fresh:
                who.messages = []
            start = len(who.messages)
            self.ask(who, tools)
            once: dict[str, Any] = {"fault": claude, "leave_after_s": leave_after_s}
            for number in range(MOST_TRIES * 4):
                where = self.world.node(*route[number % len(route)])
                if double is not None:
                    other = self.world.node(*double)
                    both = await asyncio.gather(
                        self.world.send(who, where, stream=stream, **once), self.world.send(who, other, stream=stream)
                    )
                    attempt = next((each for each in both if each.outcome is Outcome.ACKNOWLEDGED), both[0])
                    double = None
                else:
                    attempt = await self.world.send(who, where, stream=stream, **once)
                once = {}
                if attempt.outcome is Outcome.ACKNOWLEDGED:
                    if not who.take(attempt):
                        return
                    continue
                if attempt.status == 400:
                    return  # said by Claude: the checks tell why
                if keep_half and who.keep_half(attempt, "Go on."):
                    keep_half = False
                await asyncio.sleep(wait_s)
            del who.messages[start:]

    def ask(self, who: Client, tools: list[list[str]]) -> None:
        self.asked += 1
        directive = Directive(f"q{self.asked}", tools)
        who.ask(DIRECTIVE + msgspec.json.encode(directive).decode())

    # -------------------------------------------------------------------------------------------------------- trouble

    def fault(self, region: str, which: int, kind: str, name: str, skip: int) -> None:
        self.world.node(region, which).link.planned.append(Planned(Kind(kind), name, skip))

    def kill(self, region: str, which: int) -> None:
        self.world.node(region, which).kill()

    def part(self, pair: list[str]) -> None:
        self.world.table.part(*pair)

    def heal(self, pair: list[str]) -> None:
        self.world.table.heal({frozenset(pair)})

    def isolate(self, region: str) -> None:
        """Nobody outside reaches the region: no client, no replication. Inside all goes on."""
        self.world.unreachable.add(region)
        for other in self.world.setting.regions:
            if other != region:
                self.world.table.part(region, other)
        for node in self.world.nodes:
            others = self.world.setting.regions if node.region == region else (region,)
            node.link.down |= {f"elsewhere-{other}" for other in others}
            if node.region == region:
                for answering in [*node.answering.values()]:
                    answering.leave()

    def rejoin(self, region: str) -> None:
        self.world.unreachable.discard(region)
        for node in self.world.nodes:
            node.link.down -= {name for name in node.link.down if name.startswith("elsewhere-")}
        self.world.table.heal({pair for pair in self.world.table.cut if region in pair})

    def redis(self, region: str, way: str) -> None:
        redis = self.world.redis[region]
        match way:
            case "lose":
                redis.lose_all()
            case "restart":
                redis.restart()
            case "dump":
                self.dumps[region] = redis.dump()
            case "rewind":
                dump: dict[Any, Kept] = self.dumps.pop(region, {})
                redis.load(dump)

    def down(self, region: str, store: str) -> None:
        for node in self.world.nodes:
            if node.region == region:
                node.link.down.add(store)

    def up(self, region: str, store: str) -> None:
        for node in self.world.nodes:
            if node.region == region:
                node.link.down.discard(store)

    def endpoint(self, region: str, which: int, endpoint: str) -> None:
        """A sidecar is replaced by one that writes through another region's endpoint."""
        node = self.world.node(region, which)
        node.kill()
        node.endpoint = endpoint
        self.world.node(region, which)

    def skew(self, region: str, which: int, seconds: float) -> None:
        self.world.node(region, which).skew = seconds

    def table_skew(self, region: str, seconds: float) -> None:
        self.world.table.replicas[region].skew = seconds

    # ---------------------------------------------------------------------------------------------------------- the end

    async def settle(self) -> None:
        """All trouble is over: every client finishes a last turn, and everything is carried to where it belongs."""
        world = self.world
        world.unreachable.clear()
        world.table.heal()
        world.loss = 0.0
        for node in [*world.nodes]:
            node.link.down.clear()
            node.link.planned.clear()
            node.link.loss = 0.0
            if not node.alive:
                world.nodes.remove(node)
        for region in world.setting.regions:
            if not any(node.region == region == node.endpoint for node in world.nodes):
                world.start(region)
        for number, who in enumerate(self.clients):
            region = world.setting.regions[number % len(world.setting.regions)]
            self.ask(who, [["note"]])
            await self._persist(number, who, region)
        await asyncio.sleep(1)
        world.tell("settling")
        async with asyncio.timeout(SETTLE_S):
            await self._carry()
        await asyncio.sleep(LOCK_TTL_S + 31)  # no lock outlives this, however wrong a clock is

    async def _persist(self, number: int, who: Client, region: str) -> None:
        node = next(n for n in self.world.nodes if n.region == region == n.endpoint)
        for _ in range(PERSISTENT):
            attempt = await self.world.send(who, node, stream=False)
            if attempt.outcome is Outcome.ACKNOWLEDGED:
                if not who.take(attempt):
                    return
            elif attempt.status == 400:
                return
            await asyncio.sleep(1)
        raise AssertionError(f"client {number} gets no answer though all is well: {_last(self.world.attempts)}")

    async def _carry(self) -> None:
        """Until nothing waits anywhere."""
        world = self.world
        while True:
            waiting = 0
            for region in world.setting.regions:
                node = next(n for n in world.nodes if n.region == region == n.endpoint)
                try:
                    waiting += await node.services.archiver.sweep()
                except StoreUnavailable as error:
                    world.tell(f"sweep in {region}: {error}")
                    waiting += 1
            if not waiting and world.table.settled and not world.records.under_way and not world.blobs.under_way:
                return
            await asyncio.sleep(1)


def _last(attempts: list[Attempt]) -> str:
    attempt = attempts[-1]
    return f"attempt {attempt.number} ended {attempt.outcome.value} {attempt.status} {attempt.code}"


async def _run(plan: Plan) -> Result:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    world = World(plan.setting, plan.seed, loop)
    for region in plan.setting.regions:
        for _ in range(plan.nodes):
            world.start(region)
    clients = [Client(who.session, who.user, who.project, who.agent) for who in plan.clients]
    history = History(plan, world, clients, [asyncio.Lock() for _ in clients])
    problems: list[str] = []
    try:
        await history.run()
        problems += await check(world)
    except Exception as error:
        problems.append("".join(traceback.format_exception(error)))
    problems += world.watcher.violations
    problems += [f"Claude refused: {one}" for one in world.claude.refused]
    problems += [f"nobody caught: {context}" for context in loop.failures]
    for node in world.nodes:
        node.link.killed = True
    acknowledged = sum(attempt.outcome is Outcome.ACKNOWLEDGED for attempt in world.attempts)
    return Result(plan, problems, world.told, len(world.attempts), acknowledged, world.claude.dropped)


def run(plan: Plan) -> Result:
    """Run a history, in virtual time. The caller has entered ``world.virtual``."""
    return virtual_loop.run(_run(plan))


def shrink(plan: Plan, most: int = 150) -> Result:
    """The fewest of a failing history's events that still fail, as far as so many tries find them."""
    best = run(plan)
    size = max(1, len(plan.events) // 2)
    tries = 0
    while size and tries < most:
        start, cut = 0, False
        while start < len(best.plan.events) and tries < most:
            events: tuple[Event, ...] = best.plan.events
            tries += 1
            result = run(plan.only(events[:start] + events[start + size :]))
            if result.failed:
                best, cut = result, True
            else:
                start += size
        size = size // 2 if not cut or size > 1 else size
        if size == 1 and not cut:
            break
    return best
