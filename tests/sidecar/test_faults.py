"""Two sidecars on one session while things go wrong: nothing acknowledged is lost, nothing else is seen."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

import pytest

from agentmemory_sidecar.step import build
from tests.claude import StrictClaude
from tests.sidecar.faults import histories, sweep
from tests.sidecar.faults.driving import run_all
from tests.sidecar.faults.stores import Kind
from tests.sidecar.faults.world import Backend, open_backend


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


async def test_random_histories(backend: Backend) -> None:
    """``SEED=n`` repeats one history; ``HISTORIES=n`` runs so many."""
    seeds = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("HISTORIES", "200")))
    happened: Counter[str] = Counter()

    async def one(seed: int) -> None:
        happened.update(kind.name for _, kind in await histories.run(backend, seed))

    await run_all({f"SEED={seed}": partial(one, seed) for seed in seeds})
    if len(seeds) >= 50:
        assert set(happened) == {kind.name for kind in Kind}, f"some kinds of faults never happened: {happened}"
