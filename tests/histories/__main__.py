"""``python -m tests.histories``: random histories, or the one of a seed. See ``make histories``."""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from tests.histories.history import Result, run, shrink
from tests.histories.plan import REGIONS, draw
from tests.histories.world import numbered, virtual


def tell(result: Result) -> None:
    """A failed history: what is wrong, what was done, what happened. No text of anybody's is in it."""
    plan = result.plan
    setting = plan.setting
    print(f"\nSEED={plan.seed}: {plan.nodes} sidecars a region,",
          ", ".join(f"{each.name}={getattr(setting, each.name)}" for each in fields(setting)))  # fmt: skip
    for number, who in enumerate(plan.clients):
        print(f"  client {number}: session {who.session}, user {who.user}, agent {who.agent or 'root'}")
    print("events:", *(str(event) for event in plan.events), sep="\n")
    print("what happened:", *result.told, sep="\n")
    print("problems:", *result.problems, sep="\n  ")


@dataclass
class Sum:
    """What a run of histories came to."""

    shrinks: bool
    """Whether a failure can be looked at again, for the fewest events that fail."""
    verbose: bool
    failed: list[int] = field(default_factory=list)
    attempts: int = 0
    acknowledged: int = 0
    dropped: int = 0

    def add(self, result: Result) -> None:
        seed = result.plan.seed
        self.attempts, self.acknowledged = self.attempts + result.attempts, self.acknowledged + result.acknowledged
        self.dropped += result.dropped
        if not result.failed:
            if self.verbose:
                tell(result)
            return
        self.failed.append(seed)
        if not self.shrinks:
            tell(result)
        elif len(self.failed) == 1:
            print(f"SEED={seed} fails; looking for the fewest events that do", flush=True)
            tell(shrink(result.plan))
        else:
            print(f"SEED={seed} fails: {result.problems[0].strip().splitlines()[-1]}", flush=True)


async def really(seeds: Sequence[int], pace: float, directory: Path, take: Callable[[Result], object]) -> None:
    """Run the histories of these seeds on servers, which keep what they have in this directory."""
    # Only here: histories of the model need no server, and none of what starts them.
    from tests.aws.process import Ministack
    from tests.histories import real
    from tests.histories.standins import StandIns

    processes = {region: Ministack(directory / region) for region in REGIONS}
    try:
        await asyncio.gather(*(asyncio.to_thread(process.start) for process in processes.values()))
        async with StandIns({region: process.url for region, process in processes.items()}, directory) as servers:
            for seed in seeds:
                take(await real.run(servers, draw(seed), pace=pace))
    finally:
        for process in processes.values():
            process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="how many histories")
    parser.add_argument("--first", type=int, default=1, help="the first one's seed")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--real", action="store_true", help="on servers, in real time")
    parser.add_argument("--pace", type=float, default=0.25, help="with --real: seconds for each second of a history")
    parser.add_argument("--verbose", action="store_true", help="tell what happened even where all is well")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings must come in the same order each time.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.histories", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    logging.disable(logging.CRITICAL)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.count)
    begin, worked = time.perf_counter(), time.process_time()
    done = Sum(shrinks=not options.real, verbose=options.verbose)
    if options.real:
        with tempfile.TemporaryDirectory(prefix="histories-") as directory, numbered():
            Path(directory).chmod(0o711)  # the servers' account enters it
            asyncio.run(really(seeds, options.pace, Path(directory), done.add))
    else:
        with virtual():
            for seed in seeds:
                done.add(run(draw(seed)))
    took, cpu = time.perf_counter() - begin, time.process_time() - worked
    print(
        f"{len(seeds)} histories, {len(done.failed)} failed; {took:.1f} s, {1000 * cpu / len(seeds):.0f} ms of CPU each"
    )
    print(f"{done.attempts} requests, {done.acknowledged} acknowledged, {done.dropped} thinking blocks dropped")
    if done.failed:
        with_what = "STORES=real " if options.real else ""
        print(f"repeat one with: make histories {with_what}SEED=<n>; failed:", *done.failed)
    return 1 if done.failed else 0


if __name__ == "__main__":
    sys.exit(main())
