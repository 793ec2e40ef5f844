"""A few histories on servers with each run of the tests; ``make histories STORES=real`` runs as many as you like."""

from pathlib import Path

import pytest

from tests.histories import real
from tests.histories.plan import REGIONS, draw
from tests.histories.standins import StandIns
from tests.histories.world import numbered

SEEDS = (1, 6, 11, 26)
pytestmark = pytest.mark.xdist_group("histories-real")


async def test_histories(aws_processes: dict[str, str], servers_directory: Path) -> None:
    processes = dict(zip(REGIONS, aws_processes.values(), strict=True))
    async with StandIns(processes, servers_directory) as servers:
        for seed in SEEDS:
            with numbered():
                result = await real.run(servers, draw(seed))
            if result.failed:
                said = "\n".join([*map(str, result.plan.events), *result.told, *result.problems])
                pytest.fail(f"try it again with: SEED={seed} make histories STORES=real\n{said}", pytrace=False)
            assert result.acknowledged > 5
