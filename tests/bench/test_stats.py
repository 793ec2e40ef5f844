import pytest

from bench.stats import BARE, DIRECT, LITELLM, SIDECAR, Sample, Samples, Spread, percentile, spread, verdicts


def sample(proxy: str, at: int, p50: float, cpu: float | None, **more: object) -> Sample:
    row = {
        "workload": "json",
        "concurrency": 1,
        "requests": 10,
        "errors": {},
        "per_second": 5.0,
        "p95_ms": p50,
        "first_ms": None,
        "store_cpu_ms": None,
        "resident_mb": 80.0,
        "store_mb": None,
        "upstream_ratio": 1.0,
        "driver_busy": 0.5,
    } | more
    return Sample(proxy=proxy, round=at, p50_ms=p50, cpu_ms=cpu, **row)  # type: ignore[arg-type]


def test_percentile_lies_between_neighbours() -> None:
    assert percentile([4, 1, 3, 2], 0.5) == 2.5
    assert percentile([1, 2, 3], 0.5) == 2
    assert percentile([1, 2, 3], 1.0) == 3
    assert percentile([7], 0.95) == 7


def test_spread_leaves_out_what_was_not_measured() -> None:
    assert spread([3, None, 1, 10]) == Spread(3, 1, 10)
    assert spread([None]) is None
    assert spread([]) is None


def test_ratios_are_made_within_a_round() -> None:
    """A machine twice as slow in round 2 changes no ratio."""
    rows = [sample(BARE, 1, 2, 1.0), sample(SIDECAR, 1, 4, 3.0), sample(BARE, 2, 4, 2.0), sample(SIDECAR, 2, 8, 6.0)]
    assert Samples(rows).cpu_ratio(SIDECAR, "json", 1) == Spread(3, 3, 3)
    assert Samples(rows).cpu_ratio(LITELLM, "json", 1) is None


def test_a_round_without_its_pair_is_left_out() -> None:
    rows = [sample(BARE, 1, 2, 1.0), sample(SIDECAR, 1, 4, 3.0), sample(SIDECAR, 2, 8, 60.0)]
    assert Samples(rows).cpu_ratio(SIDECAR, "json", 1) == Spread(3, 3, 3)


def test_added_latency_is_over_direct_of_the_same_round() -> None:
    rows = [sample(DIRECT, 1, 1, None), sample(BARE, 1, 2, 1), sample(SIDECAR, 1, 4, 3)]
    rows += [sample(DIRECT, 2, 10, None), sample(BARE, 2, 12, 1), sample(SIDECAR, 2, 14, 3)]
    samples = Samples(rows)
    assert samples.added_ms(SIDECAR, "json", 1) == {1: 3, 2: 4}
    assert samples.added_ratio(SIDECAR, BARE, "json", 1) == Spread(2.5, 2, 3)


def test_a_proxy_that_adds_nothing_gives_no_ratio() -> None:
    rows = [sample(DIRECT, 1, 1, None), sample(BARE, 1, 1, 1), sample(SIDECAR, 1, 4, 3)]
    assert Samples(rows).added_ratio(SIDECAR, BARE, "json", 1) is None
    assert Samples(rows).unmeasurable(BARE, "json", 1) == [1]
    rows += [sample(DIRECT, 2, 1, None), sample(BARE, 2, 2, 1), sample(SIDECAR, 2, 4, 3)]
    assert Samples(rows).added_ratio(SIDECAR, BARE, "json", 1) == Spread(3, 3, 3)


def test_verdicts_judge_the_worst_concurrency_the_highest_memory_and_errors() -> None:
    rows = [sample(BARE, 1, 2, 1.0), sample(SIDECAR, 1, 4, 2.0)]
    rows += [sample(BARE, 1, 2, 1.0, concurrency=16)]
    rows += [sample(SIDECAR, 1, 4, 3.1, concurrency=16, resident_mb=101.0, errors={"HTTP 503": 2})]
    found = verdicts(Samples(rows))
    json_cpu, memory, wrong = found[0], found[-2], found[-1]
    assert json_cpu.measured == Spread(3.1, 3.1, 3.1)
    assert json_cpu.passed is False
    assert memory.measured == Spread(101, 101, 101)
    assert memory.passed is False
    assert wrong.measured == Spread(2, 2, 2)
    assert wrong.passed is False
    assert all(each.passed is None for each in found[1:-2]), "nothing else was measured"


@pytest.mark.parametrize(("cpu", "passed"), [(3.0, True), (3.01, False)])
def test_a_limit_may_be_reached_but_not_passed(cpu: float, passed: bool) -> None:
    rows = [sample(BARE, 1, 2, 1.0), sample(SIDECAR, 1, 4, cpu)]
    assert verdicts(Samples(rows))[0].passed is passed
