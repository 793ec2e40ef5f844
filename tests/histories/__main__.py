"""``python -m tests.histories``: random histories, or the one of a seed. See ``make histories``."""

import argparse
import logging
import os
import sys
import time
from dataclasses import fields

from tests.histories.history import Result, run, shrink
from tests.histories.plan import draw
from tests.histories.world import virtual


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="how many histories")
    parser.add_argument("--first", type=int, default=1, help="the first one's seed")
    parser.add_argument("--seed", type=int, help="this one alone")
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
    failed, attempts, acknowledged, dropped = [], 0, 0, 0
    begin, worked = time.perf_counter(), time.process_time()
    with virtual():
        for seed in seeds:
            result = run(draw(seed))
            attempts, acknowledged = attempts + result.attempts, acknowledged + result.acknowledged
            dropped += result.dropped
            if result.failed:
                failed.append(seed)
                if len(failed) == 1:
                    print(f"SEED={seed} fails; looking for the fewest events that do", flush=True)
                    tell(shrink(result.plan))
                else:
                    print(f"SEED={seed} fails: {result.problems[0].strip().splitlines()[-1]}", flush=True)
            elif options.verbose:
                tell(result)
    took, cpu = time.perf_counter() - begin, time.process_time() - worked
    print(f"{len(seeds)} histories, {len(failed)} failed; {took:.1f} s, {1000 * cpu / len(seeds):.0f} ms of CPU each")
    print(f"{attempts} requests, {acknowledged} acknowledged, {dropped} thinking blocks dropped")
    if failed:
        print("repeat one with: SEED=<n> make histories; failed:", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
