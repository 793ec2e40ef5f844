"""Two sidecars on one session while things go wrong: nothing acknowledged is lost, nothing else is seen."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

import pytest

from agentmemory_sidecar.step import build
from tests.claude import StrictClaude
from tests.sidecar.faults import histories, sweep
from tests.sidecar.faults.checks import check, settle
from tests.sidecar.faults.driving import persist, run_all, turn
from tests.sidecar.faults.stores import Kind
from tests.sidecar.faults.world import Backend, open_backend, open_world


@pytest.fixture
async def backend(valkey_url: str, database: str, claude: StrictClaude) -> AsyncIterator[Backend]:
    async with open_backend(valkey_url, database, claude) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _small_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items overflow into chunks at 6 KB, so that every step takes that way too."""
    monkeypatch.setattr(build, "ITEM_LIMIT", 6_000)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())
async def test_step_stopped_at_every_call(backend: Backend, kind: Kind) -> None:
    calls = await sweep.calls_of(backend)
    await run_all(sweep.cases(backend, calls, kind))


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())
async def test_degraded_step_stopped_at_every_call(backend: Backend, kind: Kind) -> None:
    calls = await sweep.calls_of(backend, degraded=True)
    await run_all(sweep.cases(backend, calls, kind, degraded=True))


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())
async def test_subagents_step_stopped_at_every_call(backend: Backend, kind: Kind) -> None:
    calls = await sweep.calls_of(backend, subagent=True)
    await run_all(sweep.cases(backend, calls, kind, subagent=True))


@pytest.mark.parametrize("fault", [None, Kind.PAUSED_BEFORE], ids=["at once", "paused before it is kept"])
async def test_entry_made_without_the_hot_tier_is_known_when_it_is_back(backend: Backend, fault: Kind | None) -> None:
    """A step that reaches no Redis puts something into its prompt while another one, which does, is about to commit: what
    the other one leaves in Redis must not hide it."""
    async with open_world(backend, pause_s=1.0) as world:
        agent, (there, here) = world.agent(), world.nodes
        await turn(world, agent, 'One. [[tool: note {"text": "one"}]][[then]][[say: Noted.]]')
        agent.ask("Two?")
        begun = len(backend.claude.turns)
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(world.send(agent, there, fault="slow_events ms=50"))
            while len(backend.claude.turns) == begun:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            other = agent.twin(remembers=False)
            other.ask("Where were we?")
            here.faults.down.add("hot")
            if fault is not None:  # the first call takes the lock, the second keeps the entry
                here.faults.plan(fault, skip=1, name="state.lock")
            left = await world.send(other, here, fault="error_event after=8")
        assert slow.result().commit == "committed"
        assert int(left.headers["x-agentmemory-injected-tokens"]) > 0
        here.faults.clear()
        here.sidecar.services.hot_health.worked()

        assert other.keep_half(left, "Go on, please."), "no thinking was kept that binds the prompt"
        again = await persist(world, other)

        assert again.tier == "hot" or fault, "the other step's copy was not asked"
        await settle(world)
        await check(world)


async def test_random_histories(backend: Backend) -> None:
    """``SEED=n`` repeats one history; ``HISTORIES=n`` runs so many."""
    seeds = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("HISTORIES", "200")))
    happened: Counter[str] = Counter()

    async def one(seed: int) -> None:
        happened.update(kind.name for _, kind in await histories.run(backend, seed))

    await run_all({f"SEED={seed}": partial(one, seed) for seed in seeds})
    if len(seeds) >= 50:
        assert set(happened) == {kind.name for kind in Kind}, f"some kinds of faults never happened: {happened}"
