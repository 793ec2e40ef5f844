"""The report: a Markdown table for each workload, the targets, and what is needed to judge them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.conversation import WORKLOADS, Workload
from bench.stats import BARE, DIRECT, LITELLM, PROXIES, SIDECAR, Sample, Samples, Spread, spread, verdicts

BEGIN = "<!-- bench/proxy.py writes between this line -->"
END = "<!-- and this one -->"
TITLES = {DIRECT: "direct", BARE: "bare aiohttp", SIDECAR: "**sidecar**", LITELLM: "LiteLLM"}


@dataclass(frozen=True, slots=True)
class Report:
    """A run: its samples, and the lines that say where and how it was made."""

    samples: Samples
    command: str
    machine: str
    versions: str
    pinning: str
    rounds: int
    seconds: float
    commits_ms: Sequence[float]
    """Times of the store's bare commit; empty where no sidecar ran."""
    commit_settings: str
    idle_ms: dict[str, float]
    """CPU milliseconds a second of each proxy (with its stores) while others were measured."""


def number(value: float) -> str:
    """Three significant digits, never an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show(value: Spread | None, unit: str = "") -> str:
    """``median (low-high)``; a dash for nothing measured, no range where there is none."""
    if value is None:
        return "-"
    median, low, high = (number(each) for each in (value.median, value.low, value.high))
    return f"{median}{unit}" if low == high else f"{median}{unit} ({low}-{high})"


def _row(samples: Samples, proxy: str, workload: Workload, concurrency: int) -> list[str]:
    rows = list(samples.of(proxy, workload.name, concurrency).values())

    def column(name: str) -> Spread | None:
        return spread(getattr(row, name) for row in rows)

    def median(name: str) -> str:
        found = column(name)
        return "-" if found is None else number(found.median)

    ratio = None if proxy in (DIRECT, BARE) else samples.cpu_ratio(proxy, workload.name, concurrency)
    added = None if proxy == DIRECT else spread(samples.added_ms(proxy, workload.name, concurrency).values())
    cells = [str(concurrency), TITLES[proxy], str(sum(row.requests for row in rows)), str(_errors(rows))]
    cells += [median("per_second"), show(column("p50_ms")), median("p95_ms"), show(added)]
    if workload.stream:
        cells.append(show(column("first_ms")))
    return [
        *cells,
        show(column("cpu_ms")),
        show(ratio),
        median("store_cpu_ms"),
        median("resident_mb"),
        median("store_mb"),
    ]


def _errors(rows: Sequence[Sample]) -> int:
    return sum(sum(row.errors.values()) for row in rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _workload(samples: Samples, workload: Workload) -> list[str]:
    first = ["first event ms"] if workload.stream else []
    head = ["c", "proxy", "replies", "errors", "replies/s", "p50 ms", "p95 ms", "added p50 ms", *first]
    head += ["CPU ms/request", "CPU over bare", "stores' CPU ms/request", "RSS MB", "stores' PSS MB"]
    cells = [(count, proxy) for count in samples.concurrencies() for proxy in samples.proxies()]
    rows = [_row(samples, proxy, workload, count) for count, proxy in cells if samples.of(proxy, workload.name, count)]
    return [f"### {workload.title}", "", *_markdown(head, rows), ""] if rows else []


def _targets(samples: Samples) -> list[str]:
    words = {True: "pass", False: "**FAIL**", None: "not measured"}
    rows = [
        [each.title, f"<= {each.limit:g}{each.unit}", show(each.measured, each.unit), words[each.passed]]
        for each in verdicts(samples)
    ]
    return ["### Targets for the sidecar", "", *_markdown(["target", "limit", "measured", "verdict"], rows), ""]


def _oddities(samples: Samples) -> list[str]:
    """What went wrong or looks odd, each with where; a line that says so where nothing did."""
    lines = [
        f"- {TITLES[row.proxy]}, {row.workload}, concurrency {row.concurrency}, round {row.round}: {reason} ({count})"
        for row in samples.rows
        for reason, count in row.errors.items()
    ]
    lines += [
        f"- {TITLES[row.proxy]}, {row.workload}, concurrency {row.concurrency}, round {row.round}: "
        f"{row.upstream_ratio:.3f} upstream requests for each request"
        for row in samples.rows
        if row.upstream_ratio != 1
    ]
    lines += [
        f"- {TITLES[proxy]}, {workload.name}, concurrency 1, round {at}: added less than can be measured; this "
        "round is left out of the ratio of added latencies"
        for proxy in (BARE, LITELLM)
        for workload in WORKLOADS
        for at in samples.unmeasurable(proxy, workload.name, 1)
    ]
    return lines or ["- None: every reply was what the upstream sent, and every request reached it exactly once."]


def markdown(report: Report) -> str:
    """The whole report."""
    samples = report.samples
    commits = spread(report.commits_ms)
    busy = {
        direct: [row.driver_busy for row in samples.rows if (row.proxy == DIRECT) is direct] for direct in (True, False)
    }
    idle = ", ".join(f"{TITLES[name]} {number(report.idle_ms[name])}" for name in PROXIES if name in report.idle_ms)
    about = [
        f"- Made by `{report.command}`: {report.rounds} rounds, windows of {report.seconds:g} s and to the last reply.",
        f"- Machine: {report.machine}.",
        f"- Versions: {report.versions}.",
        f"- Pinning: {report.pinning}.",
        f"- CPU at rest, ms a second, while others were measured: {idle}.",
        f"- Load generator and upstream together used at most {max(busy[True], default=0):.2f} of one CPU with no proxy "
        f"between, {max(busy[False], default=0):.2f} with one.",
    ]
    if commits is not None:
        about.append(
            "- The store's bare commit (conditional UPDATE and COMMIT of a 20 KB row through asyncpg, on the sidecar's "
            f"own Postgres between rounds): {show(commits, ' ms')}, {len(report.commits_ms)} times; "
            f"{report.commit_settings}."
        )
    parts = ["", *about, "", *_targets(samples)]
    for workload in WORKLOADS:
        parts += _workload(samples, workload)
    return "\n".join([*parts, "### Errors and oddities", "", *_oddities(samples), ""])


def splice(page: str, report: str) -> str:
    """The page with what stands between the two marker lines replaced. Raises ValueError where a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{report}\n{END}{after}"
