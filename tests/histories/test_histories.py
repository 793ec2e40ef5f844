"""Some histories with each run of the tests; ``make histories`` runs as many as you like."""

import os

import pytest

from tests.histories.history import run
from tests.histories.plan import draw
from tests.histories.world import virtual

HISTORIES = int(os.environ.get("HISTORIES", "300"))
PART = 50


@pytest.mark.parametrize("part", range(0, HISTORIES, PART))
def test_histories(part: int) -> None:
    for seed in range(part + 1, min(part + PART, HISTORIES) + 1):
        with virtual():
            result = run(draw(seed))
        if result.failed:
            said = "\n".join([*map(str, result.plan.events), *result.told, *result.problems])
            pytest.fail(f"repeat it with: SEED={seed} make histories\n{said}", pytrace=False)


def test_a_seed_gives_the_same_history_every_time() -> None:
    with virtual():
        first, second = run(draw(7)), run(draw(7))
    assert first.told == second.told
    assert first.attempts > 5
