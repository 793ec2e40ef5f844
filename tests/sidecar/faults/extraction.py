"""One extraction, stopped at every call it makes, in every way: each turn is learnt from once, and none is forgotten."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from agentmemory_sidecar.resource.scopes import Scope
from agentmemory_sidecar.stores.health import Cooldown
from tests.claude import Reply
from tests.sidecar.extraction import KEY, SENT, change, learns
from tests.sidecar.faults.checks import settle
from tests.sidecar.faults.driving import occurrences, turn
from tests.sidecar.faults.stores import PAUSES, Kind
from tests.sidecar.faults.world import Backend, Node, World, open_world

TWO_DAYS_S = 2 * 86_400.0
HOME, DOG = "/extracted_context/user/home_town", "/extracted_context/user/dog"


def spec(backend: Backend, scope: str) -> str:
    """Turns are read when a test says that a day has gone by."""
    return f"""
state: {{timeout: 10s, scope: {scope}}}
session: {{identity: {{headers: [X-Agent-Session], defaults: {{user: anna}}}}}}
extraction: {{subAgent: {{apiKey: {KEY}, url: "{backend.claude.url}", everyTurns: 20, idle: 24h, deadline: 30s}}}}
"""


async def told(world: World) -> None:
    """Two turns that teach something."""
    agent = world.agent()
    for text in ("I live in Porto.", "My dog is Bo."):
        await turn(world, agent, text)
    await world.nodes[0].sidecar.services.archiver.sweep()


def point_to(world: World, *nodes: Node) -> None:
    """Have extraction ask the strict Claude, a day later, and without a rest after failures."""
    for node in nodes:
        extractor = node.sidecar.services.extractor
        assert extractor is not None
        now = node.sidecar.services.now() + TWO_DAYS_S
        extractor.now = lambda now=now: now  # type: ignore[misc]
        extractor._health = Cooldown(0.0)


async def read(node: Node, *, sweep: bool = False) -> None:
    """Have a sidecar read what is due."""
    services = node.sidecar.services
    assert services.extractor is not None
    if sweep:
        services.archiver._left_alone.clear()
        await services.archiver.sweep()
    for waiting in services.extractor._waiting.values():
        waiting.at = min(waiting.at, 0.0)
    await services.extractor.settled()
    await services.tasks.drain(10)


async def learnt(world: World) -> Counter[str]:
    """How often each turn was learnt from, as the records have it; the state and the item are as they should be."""
    node = next(node for node in world.nodes if node.alive)
    for each in world.nodes:
        each.sidecar.services.archiver._left_alone.clear()
    await settle(world)
    headers = {"authorization": f"Bearer {node.sidecar.token}"}
    base = f"http://{node.sidecar.admin_address}/v1"
    async with world.backend.http.get(f"{base}/sessions/{world.session}/history", headers=headers) as response:
        records = [json.loads(line) for line in (await response.read()).splitlines()]
    shared = "users/anna" if world.config.scopes[0].scope is Scope.USER else f"sessions/{world.session}"
    async with world.backend.http.get(f"{base}/{shared}/state", headers=headers) as response:
        status, state = response.status, json.loads(await response.read())
    assert status == 200, state
    assert state["extracted_context"] == {"user": {"home_town": "Porto", "dog": "Bo"}}
    assert state["metadata"]["provenance"].keys() == {HOME, DOG}
    async with world.backend.http.get(f"{base}/sessions/{world.session}", headers=headers) as response:
        (item,) = json.loads(await response.read())["conversations"]
    assert (item["unread"], item["patches"], item["conflicts"]) == (0, 0, [])
    return Counter(turn for record in records for turn in record["payload"].get("extracted", {}).get("turns", ()))


def answers(backend: Backend, *, slow_ms: float = 0) -> Reply:
    backend.claude.reset_script()
    reply = learns(change(HOME, "Porto", 1), change(DOG, "Bo", 2), times=0, first_byte_ms=slow_ms)
    backend.claude.script(reply)
    return reply


async def calls_of(backend: Backend, scope: str) -> list[tuple[str, int]]:
    """Every call that reading makes without a fault."""
    answers(backend)
    async with open_world(backend, spec=spec(backend, scope)) as world:
        await told(world)
        node = world.nodes[0]
        point_to(world, *world.nodes)
        before = len(node.faults.calls)
        await read(node, sweep=True)
        calls = node.faults.calls[before:]
        assert set((await learnt(world)).values()) == {1}
    return [(name, nth) for name, nth in occurrences(calls) if not name.startswith("records.")]


async def with_fault(backend: Backend, kind: Kind, name: str, nth: int, scope: str) -> None:
    """One fault while turns are read; then this sidecar, another one, or a new one in its place goes on."""
    async with open_world(backend, spec=spec(backend, scope), pause_s=0.3) as world:
        await told(world)
        node, other = world.nodes
        point_to(world, node, other)
        node.faults.plan(kind, name=name, skip=nth)
        other.faults.down.add("hot")  # so that no lease holds it back
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_ending(read(node, sweep=True)))
            if kind in PAUSES:
                while not node.faults.happened and not reading.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                group.create_task(_ending(read(other, sweep=True)))
        assert node.faults.happened, f"{name} was never called for the {nth + 1}. time"
        node.faults.clear()
        other.faults.clear()
        await world.replace_killed()
        point_to(world, *world.nodes)
        await world.empty_hot()
        for each in world.nodes:
            await read(each, sweep=True)
        counted = await learnt(world)
        assert len(counted) == 2
        assert set(counted.values()) == {1}, counted


async def _ending(reading: Awaitable[None]) -> None:
    """A sidecar that is killed in the sweep itself reads nothing."""
    try:
        await reading
    except Exception as error:
        if type(error).__name__ != "StoreUnavailable":
            raise


def cases(
    backend: Backend, calls: list[tuple[str, int]], kind: Kind, scope: str
) -> dict[str, Callable[[], Awaitable[None]]]:
    return {
        f"{kind.name} {name} {nth} {scope}": partial(with_fault, backend, kind, name, nth, scope) for name, nth in calls
    }


def asked(backend: Backend) -> int:
    """How often the model was asked."""
    return sum(one.headers.items() >= SENT.items() for one in backend.claude.requests)
