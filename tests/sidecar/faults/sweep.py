"""One typical step, stopped at every call it makes, in every way."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from tests.sidecar.faults.agent import Agent
from tests.sidecar.faults.checks import check, held, may_leave_locks, settle, visible
from tests.sidecar.faults.driving import after_lock, finish, occurrences, persist, turn
from tests.sidecar.faults.stores import PAUSES, Kind
from tests.sidecar.faults.world import Backend, World, open_world

TTL_S = 0.6
PAUSE_S = 0.9
LINES = [{"type": "text", "text": f"Line {number}. " + "A long story. " * 60} for number in range(8)]
"""Each below the blobs' threshold: they stay in the record, which leaves the item for chunks."""
BIG = "A longer story. " * 100
"""Over the blobs' threshold."""
QUESTION = [
    {
        "type": "text",
        "text": f'Write it down. {BIG}[[tool: TodoWrite {{"todos": [{{"content": "one", "status": "pending"}}]}}]]'
        '[[tool: note {"text": "first"}]][[then]][[say: Written.]]',
    },
    *LINES,
]
BEHIND = ("records.put", "hot.acknowledge", "hot.renew", "hot.drop")
"""Calls that no answer waits for: whether one comes before the next step is the machine's business."""
SUB_QUESTION = [
    {"type": "text", "text": 'Look around. [[tool: sub_note {"text": "seen"}]][[then]][[say: Seen.]]'},
    *LINES,
]


async def opening(world: World, agent: Agent) -> None:
    """What was before: a session with a state, so that the step has something to hydrate and inject."""
    root = world.agent()
    await turn(world, root, '[[tool: TodoWrite {"todos": [{"content": "zero", "status": "pending"}]}]][[then]]Begin.')
    agent.messages = root.messages if not agent.agent else []


async def calls_of(backend: Backend, *, degraded: bool = False, subagent: bool = False) -> list[tuple[str, int]]:
    """Every call the step makes without a fault."""
    async with open_world(backend, ttl_s=TTL_S) as world:
        agent = world.agent("explorer" if subagent else "")
        await opening(world, agent)
        node = world.nodes[0]
        if degraded:
            node.faults.down.add("hot")
        before = len(node.faults.calls)
        agent.ask(SUB_QUESTION if subagent else QUESTION)
        attempt = await world.send(agent, node)
        assert attempt.acknowledged, attempt
        await asyncio.sleep(0.2)  # what it does behind its answer
        calls = node.faults.calls[before:]
        node.faults.clear()
        await settle(world)
        await check(world)
    return occurrences(name for name in calls if not (degraded and name.startswith("hot.")))


async def step_with_fault(
    backend: Backend,
    kind: Kind,
    name: str,
    nth: int,
    *,
    stream: bool = True,
    degraded: bool = False,
    subagent: bool = False,
) -> None:
    """The step with one fault; then its client, and another one, go on until they have their answers."""
    async with open_world(backend, ttl_s=TTL_S, pause_s=PAUSE_S) as world:
        agent = world.agent("explorer" if subagent else "")
        await opening(world, agent)
        node, other = world.nodes
        if degraded:
            for each in world.nodes:
                each.faults.down.add("hot")
        node.faults.plan(kind, name=name, skip=nth)
        agent.ask(SUB_QUESTION if subagent else QUESTION)
        sending = asyncio.ensure_future(world.send(agent, node, stream=stream))  # noqa: TID251
        if kind in PAUSES:
            while not node.faults.happened and not sending.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            rival = agent.twin()
            rival.give_up()
            rival.ask("Meanwhile, on another device.")
            await after_lock(world, rival, other, stream=not stream)
        attempt = await sending
        if not may_leave_locks(world):
            locks = await held(world)
            assert locks == ([], 0), f"a lock is left behind the answer: {locks}"
        node.faults.clear()
        if degraded:
            other.faults.clear()
        if not attempt.acknowledged:
            attempt = await persist(world, agent, stream=stream)
        await finish(world, agent, attempt, stream=stream)
        if name not in BEHIND and nth == 0:
            assert any(each.happened for each in world.faults), f"{name} was never called for the {nth + 1}. time"
        for number in range(2):
            await turn(world, agent, f"And then, number {number}?", stream=stream)
        await settle(world)
        found = await check(world)
        assert visible(found[agent.agent or "root"], "number 1?")


def cases(
    backend: Backend, calls: list[tuple[str, int]], kind: Kind, **how: bool
) -> dict[str, Callable[[], Awaitable[None]]]:
    return {
        f"{kind.name} {name} {nth}": partial(step_with_fault, backend, kind, name, nth, stream=bool(index % 2), **how)
        for index, (name, nth) in enumerate(calls)
    }
