"""Extraction while sidecars are killed, stores fail, and two read the same turns."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.claude import StrictClaude
from tests.sidecar.extraction import learns
from tests.sidecar.faults import extraction
from tests.sidecar.faults.driving import run_all
from tests.sidecar.faults.stores import Kind
from tests.sidecar.faults.world import Backend, open_backend, open_world


@pytest.fixture
async def backend(valkey_url: str, database: str, claude: StrictClaude) -> AsyncIterator[Backend]:
    async with open_backend(valkey_url, database, claude) as opened:
        yield opened


@pytest.mark.parametrize("scope", ["Session", "User"])
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())
async def test_reading_stopped_at_every_call(backend: Backend, kind: Kind, scope: str) -> None:
    calls = await extraction.calls_of(backend, scope)
    assert {name for name, _ in calls} >= {"state.read", "state.write", "hot.begin"}
    await run_all(extraction.cases(backend, calls, kind, scope))


async def test_two_that_read_the_same_turns_at_once(backend: Backend) -> None:
    extraction.answers(backend, slow_ms=500)
    async with open_world(backend, spec=extraction.spec(backend, "Session")) as world:
        await extraction.told(world)
        extraction.point_to(world, *world.nodes)
        for node in world.nodes:
            node.faults.down.add("hot")
        async with asyncio.TaskGroup() as group:
            for node in world.nodes:
                group.create_task(extraction.read(node, sweep=True))
        for node in world.nodes:
            node.faults.clear()
        assert extraction.asked(backend) == 2
        assert set((await extraction.learnt(world)).values()) == {1}
        outcomes = [
            node.sidecar.services.metrics.registry.get_sample_value(
                "agentmemory_extractions_total", {"outcome": "overtaken"}
            )
            for node in world.nodes
        ]
        assert sorted(outcome or 0.0 for outcome in outcomes) == [0.0, 1.0]


async def test_a_lease_spares_the_second_answer(backend: Backend) -> None:
    extraction.answers(backend, slow_ms=500)
    async with open_world(backend, spec=extraction.spec(backend, "Session")) as world:
        await extraction.told(world)
        extraction.point_to(world, *world.nodes)
        async with asyncio.TaskGroup() as group:
            for node in world.nodes:
                group.create_task(extraction.read(node, sweep=True))
        assert extraction.asked(backend) == 1
        assert set((await extraction.learnt(world)).values()) == {1}


async def test_sidecar_that_dies_while_the_model_thinks(backend: Backend) -> None:
    backend.claude.script(learns(fault="hang"))
    async with open_world(backend, spec=extraction.spec(backend, "Session")) as world:
        await extraction.told(world)
        extraction.point_to(world, *world.nodes)
        node, other = world.nodes
        before = len(backend.claude.requests)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(extraction.read(node, sweep=True))
            await backend.claude.received(before + 1)
            node.faults.killed.set()
            reading.cancel()
        await world.replace_killed()
        extraction.answers(backend)
        await world.empty_hot()
        extraction.point_to(world, other)
        await extraction.read(other, sweep=True)
        assert set((await extraction.learnt(world)).values()) == {1}
