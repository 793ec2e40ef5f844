"""Random histories: what clients, administrators and failures do to a session, each from one seed."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from tests.sidecar.faults.agent import Agent, Attempt, Outcome
from tests.sidecar.faults.checks import check, settle, visible
from tests.sidecar.faults.driving import BUSY, persist
from tests.sidecar.faults.stores import Kind
from tests.sidecar.faults.world import Backend, Node, World, open_world

TTL_S = 0.5
PAUSE_S = 0.7
ACTIONS = 6
UPSTREAM = (
    "529", "500", "error_event after=1", "error_event after=6", "fin after=2", "rst after=5", "cut_frame after=4",
    "no_message_delta", "no_message_stop", "json_cut", "slow_events ms=5",
)  # fmt: skip
"""How Claude fails a request."""
MOST_TRIES = 6
"""After that the client stops failing, and persists."""


@dataclass
class History:
    """One run. ``told`` says what happened, for whoever must find out why it failed."""

    world: World
    rng: random.Random
    agents: list[Agent] = field(default_factory=list)
    given_up: list[tuple[str, str]] = field(default_factory=list)
    """(agent, text) of questions that were taken back after attempts that all failed for sure."""
    told: list[str] = field(default_factory=list)
    dump: dict[bytes, bytes] = field(default_factory=dict)
    count: int = 0

    @property
    def node(self) -> Node:
        return self.rng.choice(self.world.nodes)

    def text(self, agent: Agent) -> str | list[dict[str, Any]]:
        """A question of its own, with a random way to be answered."""
        self.count += 1
        name = f"question-{self.count}-{self.rng.randrange(10**6)}"
        note = "sub_note" if agent.agent else "note"
        todo = "" if agent.agent else f'[[tool: TodoWrite {{"todos": [{{"content": "{name}", "status": "pending"}}]}}]]'
        text = self.rng.choice([
            f"{name}?",
            f"{name}? [[say: As you like.]]",
            f'{name}: go. [[tool: {note} {{"text": "{name}"}}]][[then]][[say: Noted {name}.]]',
            f'{name}: on. {todo}[[tool: {note} {{"text": "{name}"}}]][[then]][[answer]]',
        ])  # fmt: skip
        if self.rng.random() < 0.2:
            more = [{"type": "text", "text": f"{name} {n} " + "and so on " * 80} for n in range(6)]
            return [{"type": "text", "text": text}, *more]
        return text + (" Very long. " * 150 if self.rng.random() < 0.15 else "")

    def plan_faults(self) -> None:
        """Perhaps something goes wrong within the next calls of one sidecar."""
        for node in self.world.nodes:
            if self.rng.random() < 0.45 and not node.faults.waiting:
                kind = self.rng.choices(list(Kind), weights=[4, 4, 1, 1, 2, 2])[0]
                skip = self.rng.randrange(14)
                node.faults.plan(kind, skip=skip)
                self.told.append(f"plan {kind.name} after {skip} calls")

    # ------------------------------------------------------------------------------------------------------ actions

    async def run(self) -> None:
        self.agents = [self.world.agent()]
        actions = [self.turn, self.turn, self.turn, self.double, self.rival, self.subagent, self.patch, self.redis,
                   self.sweep, self.restart, self.outage]  # fmt: skip
        for _ in range(ACTIONS):
            self.plan_faults()
            action = self.rng.choice(actions)
            self.told.append(action.__name__)
            await action()
            await self.world.replace_killed()
            for node in self.world.nodes:
                node.faults.down.clear()
        for agent in self.agents:
            self.told.append("last turn")
            agent.ask("The last question?")
            for node in self.world.nodes:
                node.faults.clear()
            await self._answered(agent, await persist(self.world, agent))
        await settle(self.world)
        found = await check(self.world)
        for name, text in self.given_up:
            conversation = found.get(name or "root")
            assert conversation is None or not visible(conversation, text), f"{text} was taken back and is remembered"

    async def turn(self, agent: Agent | None = None) -> None:
        """A turn of a client that tries again, keeps half a reply, or takes its question back."""
        agent = agent or self.rng.choice(self.agents)
        text = self.text(agent)
        agent.ask(text)
        sure = True
        for _ in range(MOST_TRIES):
            attempt = await self._attempt(agent)
            if attempt.acknowledged:
                break
            sure = sure and attempt.outcome is Outcome.FAILED
            way = self.rng.random()
            if sure and way < 0.15:
                agent.give_up()
                name = text if isinstance(text, str) else text[0]["text"]
                self.given_up.append((agent.agent, name.split("?")[0].split(":")[0]))
                return
            if way < 0.5 and agent.keep_half(attempt, f"Go on, please, number {self.count}."):
                self.told.append("kept half")
                sure = False
        else:
            attempt = await persist(self.world, agent)
        await self._answered(agent, attempt)

    async def _answered(self, agent: Agent, attempt: Attempt) -> None:
        while agent.take(attempt):
            for _ in range(MOST_TRIES):
                if (attempt := await self._attempt(agent)).acknowledged:
                    break
            else:
                attempt = await persist(self.world, agent)

    async def _attempt(self, agent: Agent, node: Node | None = None) -> Attempt:
        how: dict[str, Any] = {"stream": self.rng.random() < 0.6}
        if self.rng.random() < 0.2:
            how["fault"] = self.rng.choice(UPSTREAM)
        elif self.rng.random() < 0.1:
            how["leave_after"] = self.rng.randrange(-1, 8)
        await self.world.replace_killed()
        attempt = await self.world.send(agent, node or self.node, **how)
        self.told.append(f"  {how} -> {attempt.outcome.value} {attempt.status} {attempt.code} {attempt.commit}")
        if attempt.code == BUSY:
            await asyncio.sleep(0.1)
        return attempt

    async def double(self) -> None:
        """The same request twice at once."""
        agent = self.rng.choice(self.agents)
        agent.ask(self.text(agent))
        await self.world.replace_killed()
        both = await asyncio.gather(*(self._attempt(agent, node) for node in self.world.nodes))
        answered = [attempt for attempt in both if attempt.acknowledged]
        await self._answered(agent, answered[0] if answered else await persist(self.world, agent))

    async def rival(self) -> None:
        """Another device at the same moment, with the same history or none."""
        agent = self.agents[0]
        other = agent.twin(remembers=self.rng.random() < 0.5)
        await asyncio.gather(self.turn(agent), self.turn(other))
        if self.rng.random() < 0.3:
            self.agents[0] = other

    async def subagent(self) -> None:
        agent = self.world.agent(f"explorer-{self.rng.randrange(2)}")
        both = [self.turn(agent)]
        if self.rng.random() < 0.5:
            both.append(self.turn(self.agents[0]))
        await asyncio.gather(*both)

    async def patch(self) -> None:
        self.count += 1
        patch = self.world.patch(self.node, f"patch-{self.count}")
        await asyncio.gather(patch, *([self.turn()] if self.rng.random() < 0.5 else []))

    async def redis(self) -> None:
        """The hot tier loses its data, or comes back with old ones."""
        way = self.rng.randrange(3)
        if way == 0 or not self.dump:
            self.dump = await self.world.dump_hot()
        if way == 1:
            await self.world.empty_hot()
        if way == 2:
            await self.world.restore_hot(self.dump)

    async def sweep(self) -> None:
        sweep = self.node.sidecar.services.archiver.sweep()
        await asyncio.gather(sweep, *([self.turn()] if self.rng.random() < 0.5 else []), return_exceptions=True)

    async def restart(self) -> None:
        """A sidecar is killed where it stands, perhaps in the middle of a turn."""
        node = self.node
        turn = asyncio.ensure_future(self.turn())  # noqa: TID251
        await asyncio.sleep(self.rng.random() * 0.05)
        node.faults.killed.set()
        await turn

    async def outage(self) -> None:
        """A tier is away for one sidecar or for all during a turn."""
        tier = self.rng.choice(["hot", "records", "blobs", "hot"])
        for node in self.rng.sample(self.world.nodes, self.rng.choice([1, 2])):
            node.faults.down.add(tier)
        self.told.append(f"  {tier} is away")
        await self.turn()


async def run(backend: Backend, seed: int) -> list[tuple[str, Kind]]:
    """One history; returns the faults that happened. What it raises names the seed."""
    async with open_world(backend, ttl_s=TTL_S, pause_s=PAUSE_S) as world:
        history = History(world, random.Random(seed))
        try:
            async with asyncio.timeout(120):
                await history.run()
        except BaseException as error:
            happened = [f"{name} {kind.name}" for each in world.faults for name, kind in each.happened]
            error.add_note(f"SEED={seed}: faults {happened}\n    " + "\n    ".join(history.told))
            raise
        return [fault for faults in world.faults for fault in faults.happened]
