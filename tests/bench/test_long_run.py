from pathlib import Path

import pytest

from bench import long_run
from bench.long_run_data import plan


def test_a_plan_is_seeded_and_as_large_as_asked_for() -> None:
    made = plan(3, 50, 20_000, long_run.tokens)
    assert made == plan(3, 50, 20_000, long_run.tokens)
    assert made != plan(4, 50, 20_000, long_run.tokens)
    assert 20_000 <= long_run.tokens(made.state) < 22_000
    assert (len(made.turns), made.planted) == (50, 25)
    told = str(made.state)
    assert all(told.count(turn.needs) == 1 for turn in made.turns if turn.needs)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, 0), ({"told_tokens": 101}, 1), ({"present": 2}, 1), ({"cached_share": 0.8}, 1), ({"refused": 1}, 1),
        ({"mismatches": 1}, 1),
    ],
)  # fmt: skip
def test_targets(changes: dict[str, float], missed: int) -> None:
    good = {
        "turns": 5, "requests": 10, "state_tokens": 100, "whole_tokens": 1_000, "told_tokens": 100, "planted": 3,
        "present": 3, "cached_share": 0.86, "cached_share_without": 0.9, "refused": 0, "mismatches": 0,
    }  # fmt: skip
    assert len(long_run.Result(**(good | changes)).missed()) == missed  # type: ignore[arg-type]


async def test_a_shorter_run(servers_directory: Path) -> None:
    made = plan(1, 14, 12_000, long_run.tokens)
    result = await long_run.measure(made, 1, servers_directory / "long-run")
    assert result.missed() == []
    assert result.planted == 7
    assert result.requests > 20
    assert 0.5 < result.cached_share < 1
    assert "7 of 7" in long_run.table(result)
