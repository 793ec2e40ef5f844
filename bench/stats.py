"""What the samples say: medians of rounds, ratios pair by pair within a round, and the targets. Pure."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.conversation import WORKLOADS

DIRECT, BARE, SIDECAR, LITELLM = "direct", "bare", "sidecar", "litellm"
PROXIES = (DIRECT, BARE, SIDECAR, LITELLM)
"""In the order of a round."""


LEAST_ADDED_MS = 0.05
"""The least added latency that a ratio may be made with; below it the noise of the clock and the scheduler decides."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One window: one proxy, workload and concurrency in one round. None: nothing to measure, or no good reply."""

    proxy: str
    workload: str
    concurrency: int
    round: int
    requests: int
    """Good replies."""
    errors: dict[str, int]
    per_second: float
    """Good replies a second."""
    p50_ms: float | None
    p95_ms: float | None
    first_ms: float | None
    """Median time to the first event."""
    cpu_ms: float | None
    """CPU of the proxy's processes for each request, good or bad; None for direct."""
    store_cpu_ms: float | None
    """The same of the store servers; None for a proxy without."""
    resident_mb: float | None
    store_mb: float | None
    upstream_ratio: float
    """Requests that reached the upstream for each one sent; 1 unless a proxy retries or answers by itself."""
    driver_busy: float
    """Share of one CPU that load generator and upstream used."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the values lie, between neighbours by distance."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its extremes."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median and extremes of the values that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


@dataclass(frozen=True, slots=True)
class Samples:
    """All windows of a run."""

    rows: Sequence[Sample] = field(default_factory=list)

    def of(self, proxy: str, workload: str, concurrency: int) -> dict[int, Sample]:
        """The windows of one cell by round."""
        wanted = (proxy, workload, concurrency)
        return {row.round: row for row in self.rows if (row.proxy, row.workload, row.concurrency) == wanted}

    def concurrencies(self) -> list[int]:
        """The concurrencies that were measured, rising."""
        return sorted({row.concurrency for row in self.rows})

    def proxies(self) -> list[str]:
        """The proxies that were measured, in the order of a round."""
        measured = {row.proxy for row in self.rows}
        return [proxy for proxy in PROXIES if proxy in measured]

    def cpu_ratio(self, proxy: str, workload: str, concurrency: int) -> Spread | None:
        """CPU for each request over the bare proxy's, from the pairs of each round."""
        ours, bare = self.of(proxy, workload, concurrency), self.of(BARE, workload, concurrency)
        pairs = ((ours[n].cpu_ms, bare[n].cpu_ms) for n in ours.keys() & bare.keys())
        return spread(own / other for own, other in pairs if own is not None and other)

    def added_ms(self, proxy: str, workload: str, concurrency: int) -> dict[int, float]:
        """Median latency over direct's of the same round, by round, in milliseconds."""
        ours, direct = self.of(proxy, workload, concurrency), self.of(DIRECT, workload, concurrency)
        pairs = {n: (ours[n].p50_ms, direct[n].p50_ms) for n in ours.keys() & direct.keys()}
        return {n: own - other for n, (own, other) in pairs.items() if own is not None and other is not None}

    def unmeasurable(self, other: str, workload: str, concurrency: int) -> list[int]:
        """The rounds in which this proxy added less than can be measured, so that no ratio is made."""
        added = self.added_ms(other, workload, concurrency)
        return sorted(n for n, milliseconds in added.items() if milliseconds < LEAST_ADDED_MS)

    def added_ratio(self, proxy: str, other: str, workload: str, concurrency: int) -> Spread | None:
        """What ``proxy`` adds over what ``other`` adds, from the pairs of each round.

        A round in which ``other`` added nothing measurable says nothing about the ratio.
        """
        ours, theirs = (self.added_ms(name, workload, concurrency) for name in (proxy, other))
        rounds = ours.keys() & theirs.keys() - set(self.unmeasurable(other, workload, concurrency))
        return spread(ours[n] / theirs[n] for n in rounds)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target beside what was measured; ``measured`` is None where the run has not what it needs."""

    title: str
    limit: float
    measured: Spread | None
    unit: str = " x"

    @property
    def passed(self) -> bool | None:
        """Whether the median keeps the limit."""
        return None if self.measured is None else self.measured.median <= self.limit


CPU_LIMITS = {"json": 3.0, "stream": 2.5, "paced": 1.6}
ADDED_OVER_BARE = 3.5
ADDED_OVER_LITELLM = 0.1
RESIDENT_MB = 100.0


def _worst(spreads: Iterable[Spread | None]) -> Spread | None:
    known = [each for each in spreads if each is not None]
    return max(known, key=lambda each: each.median) if known else None


def verdicts(samples: Samples) -> list[Verdict]:
    """The targets for the sidecar. CPU is judged at the concurrency where its ratio is worst, memory by the highest
    value of the whole run, and errors count as a target of their own: none is allowed."""
    found = []
    for workload in WORKLOADS:
        ratios = [samples.cpu_ratio(SIDECAR, workload.name, count) for count in samples.concurrencies()]
        title = f"CPU a request over bare, worst concurrency: {workload.title}"
        found.append(Verdict(title, CPU_LIMITS[workload.name], _worst(ratios)))
    for other, limit in ((BARE, ADDED_OVER_BARE), (LITELLM, ADDED_OVER_LITELLM)):
        for workload in WORKLOADS:
            title = f"Latency added at concurrency 1 over what {other} adds: {workload.title}"
            found.append(Verdict(title, limit, samples.added_ratio(SIDECAR, other, workload.name, 1)))
    own = [row for row in samples.rows if row.proxy == SIDECAR]
    highest = max((row.resident_mb for row in own if row.resident_mb is not None), default=None)
    memory = None if highest is None else Spread(highest, highest, highest)
    found.append(Verdict("Resident memory, highest of the run", RESIDENT_MB, memory, " MB"))
    wrong = float(sum(sum(row.errors.values()) for row in own))
    found.append(Verdict("Wrong or refused replies", 0, Spread(wrong, wrong, wrong) if own else None, ""))
    return found
