"""What a record says of a drill: downtime, what is missing, what is there twice, what was refused."""

from dataclasses import replace

import pytest

from agentmemory_operator.drill.budgets import Budgets
from agentmemory_operator.drill.evaluate import Report, evaluate
from agentmemory_operator.drill.ledger import Attempt, Fault, Outcome, Run
from tests.operator.drill.runs import EAST, FAULT, WEST, attempt, run, view

BUDGETS = Budgets(patience_s=5.0, step_s=7.0, lock_s=60.0)
LOST = attempt(2, EAST, 9.5, 14.5, outcome=Outcome.LOST, said="TimeoutError")
MOVED = (attempt(1, EAST, 8, 9), LOST, attempt(2, WEST, 14.7, 15.7), attempt(3, EAST, 31, 32))


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if not check.passed]


def judged(record: Run) -> Report:
    return evaluate(record, BUDGETS)


def test_a_session_that_goes_on_elsewhere_and_comes_back_whole_passes() -> None:
    busy = [attempt(number, WEST, 12 + number, 12.5 + number) for number in range(4, 19)]
    report = judged(run(*MOVED[:3], *busy, MOVED[3]))
    assert report.passed, failed(report)
    (line,) = report.lines
    assert line.recovery_s == pytest.approx(5.7)
    assert line.longest_gap_s == pytest.approx(6.7)
    assert report.outage_budget_s == pytest.approx(5 + 7 + 1)
    assert (report.acknowledged, report.lost, report.replayed, report.refused) == (18, {"TimeoutError": 1}, 0, {})


def test_the_gap_lasts_to_the_end_of_the_drill() -> None:
    report = judged(run(*MOVED[:3], ended_s=60.0))
    assert report.lines[0].longest_gap_s == pytest.approx(60 - 15.7)
    assert failed(report) == ["longest gap"]


def test_a_writer_that_never_recovers_fails() -> None:
    report = judged(run(attempt(1, EAST, 8, 9), LOST))
    assert report.lines[0].recovery_s is None
    assert "recovery (RTO)" in failed(report)


def test_a_turn_in_the_region_that_is_hit_is_no_recovery_before_it_is_healed() -> None:
    still_there = attempt(2, EAST, 10.1, 10.4)
    report = judged(run(attempt(1, EAST, 8, 9), still_there, attempt(3, EAST, 31, 32)))
    assert report.lines[0].recovery_s == pytest.approx(22.0)


def test_a_killed_pods_region_goes_on_and_its_lock_counts() -> None:
    record = run(attempt(1, EAST, 8, 9), attempt(2, EAST, 12, 60), fault=Fault("pod", EAST, 10.0, 11.0))
    report = judged(record)
    assert report.lines[0].recovery_s == pytest.approx(50.0)
    assert report.outage_budget_s == pytest.approx(5 + 60 + 7 + 1)
    assert report.passed, failed(report)


def test_a_step_between_the_order_and_the_kill_is_no_recovery() -> None:
    pod = Fault("pod", EAST, 10.0, 30.0)
    served = [attempt(n, EAST, at, at + 0.3) for n, at in enumerate((9.0, 10.1, 16.2, 17.0, 30.5), 1)]
    report = evaluate(run(*served, fault=pod), BUDGETS)
    assert report.lines[0].recovery_s == pytest.approx(13.5)

    hit = replace(pod, healed_s=16.0)
    assert evaluate(run(*served[:4], fault=hit), BUDGETS).lines[0].recovery_s == pytest.approx(6.1)
    assert evaluate(run(*served[:2], fault=hit), BUDGETS).lines[0].recovery_s is None


@pytest.mark.parametrize("region", [EAST, WEST])
def test_an_acknowledged_turn_that_one_region_lacks_is_missing(region: str) -> None:
    record = run(*MOVED)
    first = MOVED[0].note
    final = tuple(
        replace(shown, notes=tuple(note for note in shown.notes if (shown.region, note) != (region, first)))
        for shown in record.final
    )
    report = judged(replace(record, final=final))
    assert report.missing == {EAST: (), WEST: ()} | {region: (first,)}
    assert "acknowledged turns missing (RPO)" in failed(report)


def test_a_session_that_a_region_does_not_show_is_not_passed_over() -> None:
    report = judged(run(*MOVED, final=(view(EAST, *(each.note for each in MOVED)),)))
    assert report.unshown == (f"s in {WEST}",)
    assert "sessions shown in all regions" in failed(report)


def test_a_turn_that_is_there_twice_is_told() -> None:
    record = run(*MOVED)
    again = (record.final[0], replace(record.final[1], notes=(*record.final[1].notes, MOVED[0].note)))
    report = judged(replace(record, final=again))
    assert report.twice == {EAST: (), WEST: (MOVED[0].note,)}
    assert "acknowledged turns there twice" in failed(report)


def test_what_was_saved_without_an_answer_is_counted_and_forgiven() -> None:
    notes = [each.note for each in MOVED]
    report = judged(run(*MOVED, final=(view(EAST, *notes), view(WEST, *notes))))
    assert report.unacknowledged == (LOST.note,)
    assert "acknowledged turns there twice" not in failed(report)


def test_what_the_other_region_did_not_know_at_failover_has_a_number_and_an_age() -> None:
    before = (attempt(1, EAST, 5, 6), attempt(2, EAST, 7, 8), attempt(3, EAST, 8.5, 9))
    record = run(*before, attempt(4, WEST, 12, 13), at_failover=(view(WEST, before[0].note),))
    report = judged(record)
    assert report.unseen == (before[1].note, before[2].note)
    assert report.unseen_window_s == pytest.approx(2.0)


def test_states_that_differ_are_told() -> None:
    record = run(*MOVED)
    report = judged(replace(record, final=(record.final[0], replace(record.final[1], state='{"other": 1}'))))
    assert not report.same
    assert "the same state in all regions" in failed(report)


def both(kept: tuple[str, ...]) -> tuple[Run, tuple[Attempt, ...]]:
    sides = (
        attempt(1, EAST, 11, 12, mark=f"a/1/{EAST}"),
        attempt(1, WEST, 11, 12, writer="b", mark=f"b/1/{WEST}"),
        attempt(2, EAST, 31, 32),
    )
    notes = [each.note for each in sides]
    final = tuple(view(region, *notes, marks=kept) for region in (EAST, WEST))
    return run(*sides, sessions={"a": "s", "b": "s"}, final=final, fault=replace(FAULT, kind="link", region="")), sides


def test_a_clash_that_a_conflict_keeps_is_not_lost() -> None:
    report = judged(both((f"a/1/{EAST}", f"b/1/{WEST}"))[0])
    assert report.lost_marks == ()
    assert report.conflicting == 1


def test_a_clashing_value_that_is_nowhere_is_lost() -> None:
    report = judged(both((f"b/1/{WEST}",))[0])
    assert report.lost_marks == (f"a/1/{EAST}",)
    assert "clashing values lost" in failed(report)


def test_refusals_are_counted_by_their_codes() -> None:
    refused = attempt(2, EAST, 9, 9.1, outcome=Outcome.REFUSED, said="409 turn_fenced")
    again = attempt(2, EAST, 9.2, 9.3, replayed=True)
    report = judged(run(attempt(1, EAST, 8, 8.5), refused, refused, again, attempt(3, WEST, 12, 13)))
    assert report.refused == {"409 turn_fenced": 2}
    assert report.replayed == 1
