"""What clients do until they have their answer, and running many cases at once."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import cycle
from typing import Any

from tests.sidecar.faults.agent import Agent, Attempt
from tests.sidecar.faults.world import Node, World

BUSY = "concurrent_process_active"
AT_ONCE = 16
"""Cases that run at the same time, each in a tenant of its own."""


async def persist(world: World, agent: Agent, *, stream: bool = True) -> Attempt:
    """Send the same request until it is answered, now to one sidecar, now to the other; killed ones are replaced."""
    for index in cycle(range(len(world.nodes))):
        await world.replace_killed()
        attempt = await world.send(agent, world.nodes[index], stream=stream)
        if attempt.acknowledged:
            return attempt
        assert attempt.status in (200, 0, 409, 502, 503), f"not an answer to send again after: {attempt}"
        assert len(agent.attempts) < 500, f"never answered; the last was {attempt}"
        await asyncio.sleep(0.05)
    raise AssertionError


async def finish(world: World, agent: Agent, attempt: Attempt, *, stream: bool = True) -> None:
    """From an acknowledged step to the end of its turn."""
    while agent.take(attempt):
        attempt = await persist(world, agent, stream=stream)


async def turn(world: World, agent: Agent, text: str, *, stream: bool = True) -> None:
    """A turn of a client that does not give up."""
    agent.ask(text)
    await finish(world, agent, await persist(world, agent, stream=stream), stream=stream)


async def after_lock(world: World, agent: Agent, node: Node, **how: Any) -> Attempt:
    """Send until the lock is free; what comes then, whatever it is."""
    while (attempt := await world.send(agent, node, **how)).code == BUSY:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return attempt


async def run_all(cases: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    """Run all cases, some at a time, and fail with all that failed."""
    failures: dict[str, str] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, case: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            try:
                await case()
            except Exception as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                failures[name] = f"{type(error).__name__} at {at.filename.rsplit('/', 1)[-1]}:{at.lineno}: {error}"
                failures[name] += "".join(f"\n    {note}" for note in getattr(error, "__notes__", ()))

    async with asyncio.TaskGroup() as group:
        for name, case in cases.items():
            group.create_task(one(name, case))
    told = "\n".join(f"  {name}: {text[:3000]}" for name, text in sorted(failures.items()))
    assert not failures, f"{len(failures)} of {len(cases)} cases failed:\n{told}"


def occurrences(calls: Iterable[str]) -> list[tuple[str, int]]:
    """Each call as (name, how many of that name came before)."""
    seen: dict[str, int] = {}
    found = []
    for name in calls:
        found.append((name, seen.get(name, 0)))
        seen[name] = seen.get(name, 0) + 1
    return found
