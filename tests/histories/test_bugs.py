"""Each mistake is caught, within a number of histories that is far above what it takes."""

import pytest

from tests.histories.bugs import BUGS, Bug
from tests.histories.history import Result, run
from tests.histories.plan import draw
from tests.histories.world import virtual

MOST = 150


def caught(bug: Bug, most: int = MOST) -> Result | None:
    """The first history that fails with the mistake in the product; None where none does."""
    with virtual(), bug.seeded():
        results = (run(draw(seed)) for seed in range(1, most + 1))
        return next((result for result in results if result.failed), None)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_it_is_caught(bug: Bug) -> None:
    assert caught(bug) is not None, f"{bug.name}: {MOST} histories did not notice"


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    for each in BUGS:
        found = caught(each)
        told = f"history {found.plan.seed}: {found.problems[0].strip().splitlines()[-1][:160]}" if found else "never"
        print(f"{each.name:32} {told}", flush=True)
