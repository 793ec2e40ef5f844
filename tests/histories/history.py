"""Runs one plan, lets everything settle, and checks what must hold."""

import asyncio
import traceback
from dataclasses import dataclass
from typing import Any

import msgspec

from agentmemory_sidecar.stores.protocols import StoreUnavailable
from tests.histories import loop as virtual_loop
from tests.histories.checks import check
from tests.histories.claude import DIRECTIVE, Directive
from tests.histories.client import Attempt, Client, Outcome
from tests.histories.ground import Ground, ModelGround
from tests.histories.links import Kind, Planned
from tests.histories.loop import VirtualLoop
from tests.histories.plan import Event, Plan
from tests.histories.world import HOT_TTL_S, LOCK_TTL_S, World

MOST_TRIES = 5
PERSISTENT = 60
SETTLE_S = 2_000.0
"""What has not settled by then never will."""
UNLOCKED_S = round(LOCK_TTL_S) + 31
"""No lock outlives this, however wrong a clock is."""


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
    asked: int = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        running: list[asyncio.Task[None]] = []
        for event in self.plan.events:
            if (left := begin + event.at * self.world.setting.pace - loop.time()) > 0:
                await asyncio.sleep(left)
            self.world.tell(str(event)[10:] if event.what != "turn" else f"turn of client {event.how['client']}")
            if event.what == "turn":
                running.append(loop.create_task(self.turn(**event.how)))
            else:
                await getattr(self, event.what)(**event.how)
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
                await self.world.wait(wait_s)
            del who.messages[start:]

    def ask(self, who: Client, tools: list[list[str]]) -> None:
        self.asked += 1
        directive = Directive(f"q{self.asked}", tools)
        who.ask(DIRECTIVE + msgspec.json.encode(directive).decode())

    # -------------------------------------------------------------------------------------------------------- trouble

    async def fault(self, region: str, which: int, kind: str, name: str, skip: int) -> None:
        self.world.node(region, which).link.planned.append(Planned(Kind(kind), name, skip))

    async def kill(self, region: str, which: int) -> None:
        self.world.node(region, which).kill()

    async def part(self, pair: list[str]) -> None:
        self.world.ground.part(*pair)

    async def heal(self, pair: list[str]) -> None:
        self.world.ground.heal(*pair)

    async def isolate(self, region: str) -> None:
        """Nobody outside reaches the region: no client, no replication. Inside all goes on."""
        self.world.unreachable.add(region)
        self.world.ground.isolate(region)
        for node in self.world.nodes:
            if node.region == region:
                for answering in [*node.answering.values()]:
                    answering.leave()

    async def rejoin(self, region: str) -> None:
        self.world.unreachable.discard(region)
        await self.world.ground.rejoin(region)

    async def redis(self, region: str, way: str) -> None:
        await self.world.ground.redis(region, way)

    async def down(self, region: str, store: str) -> None:
        await self.world.ground.down(region, store)

    async def up(self, region: str, store: str) -> None:
        await self.world.ground.up(region, store)

    async def endpoint(self, region: str, which: int, endpoint: str) -> None:
        """A sidecar is replaced by one that writes through another region's endpoint."""
        node = self.world.node(region, which)
        node.kill()
        node.endpoint = endpoint
        self.world.node(region, which)

    async def skew(self, region: str, which: int, seconds: float) -> None:
        self.world.node(region, which).skew = seconds

    async def table_skew(self, region: str, seconds: float) -> None:
        self.world.ground.skew(region, seconds)

    # ---------------------------------------------------------------------------------------------------------- the end

    async def settle(self) -> None:
        """All trouble is over: every client finishes a last turn, and everything is carried to where it belongs."""
        world = self.world
        world.unreachable.clear()
        await world.ground.calm()
        world.loss = 0.0
        for node in [*world.nodes]:
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
        await world.wait(1)
        world.tell("settling")
        async with asyncio.timeout(SETTLE_S):
            await self._carry()
        for _ in range(UNLOCKED_S):
            if not await world.ground.locks():
                break
            await asyncio.sleep(1)

    async def _persist(self, number: int, who: Client, region: str) -> None:
        node = next(n for n in self.world.nodes if n.region == region == n.endpoint)
        for _ in range(PERSISTENT):
            attempt = await self.world.send(who, node, stream=False)
            if attempt.outcome is Outcome.ACKNOWLEDGED:
                if not who.take(attempt):
                    return
            elif attempt.status == 400:
                return
            await self.world.wait(1)
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
            if not waiting and world.ground.settled:
                return
            await world.wait(1)


def _last(attempts: list[Attempt]) -> str:
    attempt = attempts[-1]
    return f"attempt {attempt.number} ended {attempt.outcome.value} {attempt.status} {attempt.code}"


async def play(plan: Plan, ground: Ground, failures: list[dict[str, Any]]) -> Result:
    """Run a history on these stores. ``failures`` is where the loop notes what nobody caught. The caller has entered
    ``world.numbered``, or for virtual time ``world.virtual``."""
    world = World(plan.setting, plan.seed, ground)
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
    problems += ground.watcher.violations
    problems += [f"Claude refused: {one}" for one in world.claude.refused]
    problems += [f"nobody caught: {context}" for context in failures]
    for node in world.pods:
        await node.close()
    acknowledged = sum(attempt.outcome is Outcome.ACKNOWLEDGED for attempt in world.attempts)
    return Result(plan, problems, world.told, len(world.attempts), acknowledged, world.claude.dropped)


def run(plan: Plan) -> Result:
    """Run a history on the model, in virtual time. The caller has entered ``world.virtual``."""

    async def main() -> Result:
        loop, setting = asyncio.get_running_loop(), plan.setting
        assert isinstance(loop, VirtualLoop)
        ground = ModelGround(setting.regions, plan.seed, loop, setting.lag_s, HOT_TTL_S)
        return await play(plan, ground, loop.failures)

    return virtual_loop.run(main())


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
