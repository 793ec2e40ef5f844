import pytest

from bench.stats import BARE, DIRECT, SIDECAR, Samples, Spread
from bench.table import BEGIN, END, Report, markdown, number, show, splice
from tests.bench.test_stats import sample


def report(samples: Samples) -> Report:
    return Report(
        samples=samples,
        command="python -m bench.proxy",
        machine="a machine",
        versions="Python 3",
        pinning="none",
        rounds=1,
        seconds=1.5,
        commits_ms=[2.0, 3.0, 9.0],
        commit_settings="fsync on",
        idle_ms={BARE: 0.5},
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.014, "0.01"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234"), (-0.4, "-0.40")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_spread_without_range_shows_none() -> None:
    assert show(Spread(2, 1, 3), " ms") == "2.00 ms (1.00-3.00)"
    assert show(Spread(2, 2, 2)) == "2.00"
    assert show(None) == "-"


def test_the_tables_are_rectangular_and_hold_every_proxy() -> None:
    rows = [sample(DIRECT, 1, 1, None), sample(BARE, 1, 2, 1.0), sample(SIDECAR, 1, 4, 3.5, store_cpu_ms=1.5)]
    text = markdown(report(Samples(rows)))
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("|") and not lines[at - 1].startswith("|"):
            width = line.count("|")
            while lines[at].startswith("|"):
                assert lines[at].count("|") == width
                at += 1
    sidecar = next(line for line in lines if "| **sidecar** |" in line)
    assert [cell.strip() for cell in sidecar.split("|")[1:-1]] == [
        *("1", "**sidecar**", "10", "0", "5.00", "4.00", "4.00", "3.00", "3.50", "3.50", "1.50", "80.0", "-")
    ]
    assert "3.00 ms (2.00-9.00), 3 times; fsync on" in text
    assert "| CPU a request over bare, worst concurrency: JSON replies | <= 3 x | 3.50 x | **FAIL** |" in text
    assert "Nothing" not in text
    assert "- None: every reply" in text


def test_errors_and_repeated_requests_are_listed() -> None:
    rows = [sample(BARE, 1, 2, 1.0, errors={"HTTP 503": 2}), sample(SIDECAR, 1, 2, 1.0, upstream_ratio=1.25)]
    text = markdown(report(Samples(rows)))
    assert "- bare aiohttp, json, concurrency 1, round 1: HTTP 503 (2)" in text
    assert "- **sidecar**, json, concurrency 1, round 1: 1.250 upstream requests for each request" in text
    assert "- None" not in text


def test_a_round_that_a_ratio_leaves_out_is_listed() -> None:
    rows = [sample(DIRECT, 1, 1, None), sample(BARE, 1, 1, 1), sample(SIDECAR, 1, 4, 3)]
    assert "- bare aiohttp, json, concurrency 1, round 1: added less than can be measured" in markdown(
        report(Samples(rows))
    )


def test_splice_keeps_the_rest_of_the_page() -> None:
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    once = splice(page, "new")
    assert once == f"# Title\n\n{BEGIN}\nnew\n{END}\n\nafter\n"
    assert splice(once, "new") == once


def test_splice_refuses_a_page_without_markers() -> None:
    with pytest.raises(ValueError, match="has no lines"):
        splice("# Title\n", "new")
