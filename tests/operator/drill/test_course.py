"""A drill's course through two real sidecars on one eventual table: what is acknowledged is found, and what is hit is told.

The faults here are a sidecar that stops and one that never answers; regions are cut in e2e.
"""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from agentmemory_operator.drill.conversation import RULES, Conversation
from agentmemory_operator.drill.course import Course, DrillFailed, LookFailed, Times
from agentmemory_operator.drill.evaluate import evaluate
from agentmemory_operator.drill.ledger import Outcome, View
from agentmemory_operator.drill.line import SCRIPT, Line, Lost
from agentmemory_operator.drill.view import view
from agentmemory_operator.drill.writer import Writer
from tests.claude import StrictClaude
from tests.ministack import Ministack
from tests.operator.drill.test_evaluate import BUDGETS
from tests.sidecar.conftest import Configure, Start
from tests.sidecar.stand import Stand
from tests.sidecar.test_turn_regions import EAST, WEST, spread

ASK = "Call the tool. [[tool:agentmemory_drill {call}]]"
TIMES = Times(hold_s=0.0, turns=3, wait_s=60.0)
pytestmark = pytest.mark.xdist_group("ministack")


class World:
    """Two regions; a region whose sidecar is None has nobody."""

    def __init__(self, east: Stand, west: Stand) -> None:
        self.at: dict[str, Stand | None] = {EAST: east, WEST: west}

    def line(self, region: str) -> Line:
        async def command() -> Sequence[str]:
            stand = self.at[region]
            if stand is None:
                raise Lost("no pod is ready")
            return ("env", f"ANTHROPIC_BASE_URL={stand.url}", sys.executable, "-u", "-c", SCRIPT)

        return Line(command)

    async def look(self, region: str, session: str) -> View:
        stand = self.at[region]
        if stand is None:
            raise LookFailed(region)
        await stand.settled()
        status, _, body = await stand.admin("GET", f"/v1/sessions/{session}")
        assert status == 200, body
        return view(region, session, body.decode())


@pytest.fixture
async def world(configure: Configure, start: Start, ministack: Ministack) -> World:
    regions = await spread(configure, start, ministack, {"extraction": {"rules": RULES}})
    return World(regions.east, regions.west)


def writer(world: World, name: str, session: str, *regions: str, lines: list[Line], thinking: bool = True) -> Writer:
    here = {region: world.line(region) for region in (EAST, WEST)}
    lines += here.values()
    talk = Conversation("claude-haiku-4-5", ASK, thinking)
    return Writer(name, session, regions, here, talk, patience_s=20.0)


@pytest.fixture
async def lines() -> AsyncIterator[list[Line]]:
    opened: list[Line] = []
    yield opened
    for line in opened:
        await line.close()


async def test_a_region_that_stops_and_comes_back_loses_nothing(
    world: World, lines: list[Line], claude: StrictClaude, start: Start
) -> None:
    writers = [writer(world, "a", "s-1", EAST, WEST, lines=lines), writer(world, "b", "s-2", WEST, EAST, lines=lines)]
    config = world.at[EAST].config if world.at[EAST] else None
    assert config is not None

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        stand = world.at[EAST]
        assert stand is not None
        world.at[EAST] = None
        await stand.stop()
        yield
        world.at[EAST] = await start(config)

    course = Course("region", EAST, (EAST, WEST), writers, world.look, fault, TIMES)
    run = await course.run()
    report = evaluate(run, BUDGETS)
    assert {attempt.region for attempt in run.acknowledged(["a"])} == {EAST, WEST}
    assert {shown.region for shown in run.at_failover} == {WEST}
    assert not any(report.missing.values())
    assert not any(report.twice.values())
    assert report.same
    assert not [request for request in claude.requests if request.status >= 400]
    assert b'"signature"' in claude.requests[-1].body


async def test_two_sides_of_one_session_keep_every_turn_and_both_marks(world: World, lines: list[Line]) -> None:
    writers = [writer(world, "a", "s-1", EAST, lines=lines), writer(world, "b", "s-1", WEST, lines=lines)]

    @asynccontextmanager
    async def nothing() -> AsyncIterator[None]:
        yield

    run = await Course("link", "", (EAST, WEST), writers, world.look, nothing, TIMES, marking=True).run()
    report = evaluate(run, BUDGETS)
    assert {attempt.writer for attempt in run.acknowledged() if attempt.mark} == {"a", "b"}
    assert not any(report.missing.values())
    assert not any(report.twice.values())
    assert report.same


async def test_writers_that_get_nothing_acknowledged_hit_nothing(world: World, lines: list[Line]) -> None:
    world.at[EAST] = None
    hit = []

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        hit.append(True)
        yield

    only = [writer(world, "a", "s-1", EAST, lines=lines)]
    times = Times(hold_s=0.0, turns=1, wait_s=0.5)
    with pytest.raises(DrillFailed, match="before anything was hit: no pod is ready"):
        await Course("pod", EAST, (EAST, WEST), only, world.look, fault, times).run()
    assert not hit
    assert {attempt.outcome for attempt in only[0].attempts} == {Outcome.LOST}


async def test_a_pod_that_goes_silent_is_a_loss_and_its_late_answer_is_nobodys(world: World) -> None:
    async def silent() -> Sequence[str]:
        return (sys.executable, "-u", "-c", "print('{}', flush=True); input(); input()")

    line = Line(silent)
    for _ in range(2):
        with pytest.raises(Lost, match="TimeoutError"):
            await line.ask("/v1/messages", {}, 0.2)
    await line.close()
