"""From a drill's record to its report: pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agentmemory_operator.drill.budgets import Budgets
from agentmemory_operator.drill.ledger import AWAY, Attempt, Fault, Outcome, Run, View


@dataclass(frozen=True, slots=True)
class Line:
    """One writer's downtime (seconds)."""

    writer: str
    session: str
    acknowledged: int
    recovery_s: float | None
    """From the fault to the first acknowledged step behind it, or behind the silence that came of it; None for never."""
    longest_gap_s: float
    """The longest time between two acknowledged steps, from the first to the end of the drill."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a drill demands."""

    name: str
    found: str
    demanded: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What a fault cost."""

    fault: Fault
    regions: tuple[str, ...]
    lines: tuple[Line, ...]
    acknowledged: int
    refused: dict[str, int]
    """By error code."""
    lost: dict[str, int]
    """Attempts without an answer, by what was noticed instead."""
    replayed: int
    unseen: tuple[str, ...]
    """Acknowledged where the fault struck, before it did, and not known at once in the region that took over."""
    unseen_window_s: float
    """How long before the fault the oldest of these was acknowledged: what a region that never returns takes with it."""
    missing: dict[str, tuple[str, ...]]
    """By region: acknowledged, and not there once healed, in the sessions that it showed."""
    unshown: tuple[str, ...]
    """Sessions that a region did not show in the end: of these nothing is known."""
    twice: dict[str, tuple[str, ...]]
    """By region: acknowledged, and there more than once."""
    unacknowledged: tuple[str, ...]
    """Saved, though the answer never arrived; tried again in another region, under another note."""
    lost_marks: tuple[str, ...]
    """Values written at one place from both sides that neither stand nor are in a conflict."""
    conflicting: int
    """Marks that conflicts keep beside the one that stands."""
    same: bool
    """Whether every region shows every session's state with the same bytes."""
    outage_budget_s: float
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def evaluate(run: Run, budgets: Budgets) -> Report:
    """Downtime, losses and repetitions of a run, against the budgets of its resource."""
    acknowledged = run.acknowledged()
    lines = tuple(_line(run, writer) for writer in run.sessions)
    budget = budgets.outage_s(run.fault.kind, _longest_step(run))
    unseen = _unseen(run)
    missing = {region: _counted(run, region, lambda count: count == 0) for region in run.regions}
    twice = {region: _counted(run, region, lambda count: count > 1) for region in run.regions}
    same, lost_marks, unshown = _same(run), _lost_marks(run), _unshown(run)
    recoveries = [line.recovery_s for line in lines]
    worst = None if None in recoveries or not recoveries else max(each for each in recoveries if each is not None)
    gap = max((line.longest_gap_s for line in lines), default=0.0)
    checks = (
        Check("recovery (RTO)", "never" if worst is None else f"{worst:.1f} s", f"at most {budget:.1f} s",
              worst is not None and worst <= budget),
        Check("longest gap", f"{gap:.1f} s", f"at most {budget:.1f} s", gap <= budget),
        Check("sessions shown in all regions", ", ".join(unshown) or "all", "all", not unshown),
        Check("acknowledged turns missing (RPO)", _by_region(missing), "0", not any(missing.values())),
        Check("acknowledged turns there twice", _by_region(twice), "0", not any(twice.values())),
        Check("clashing values lost", str(len(lost_marks)), "0", not lost_marks),
        Check("the same state in all regions", "yes" if same else "no", "yes", same),
    )  # fmt: skip
    return Report(
        run.fault, run.regions, lines, len(acknowledged),
        _said(run, Outcome.REFUSED), _said(run, Outcome.LOST), sum(each.replayed for each in run.attempts),
        tuple(each.note for each in unseen),
        max([0.0, *(run.fault.began_s - each.ended_s for each in unseen)]),
        missing, unshown, twice, _unacknowledged(run), lost_marks, _conflicting(run), same, budget, checks,
    )  # fmt: skip


def _said(run: Run, outcome: Outcome) -> dict[str, int]:
    return dict(Counter(each.said or outcome.value for each in run.attempts if each.outcome is outcome))


def _line(run: Run, writer: str) -> Line:
    steps = run.steps([writer])
    recovery = _resumed(run.fault, steps) if run.fault.kind in AWAY else _silent(run.fault, steps)
    times = [each.ended_s for each in steps] + [run.ended_s]
    gap = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
    return Line(writer, run.sessions[writer], len(run.acknowledged([writer])), recovery, gap)


def _resumed(fault: Fault, steps: Sequence[Attempt]) -> float | None:
    """Until the first step that began after the fault and was acknowledged where nothing was hit."""
    for each in steps:
        if each.began_s >= (fault.healed_s if each.region == fault.region else fault.began_s):
            return each.ended_s - fault.began_s
    return None


def _silent(fault: Fault, steps: Sequence[Attempt]) -> float | None:
    """The longest time without an acknowledged step behind the order. Of a pod or a node the region's others go on, and what
    was hit served until the order was carried out."""
    if not steps or steps[-1].ended_s < fault.healed_s:
        return None
    times = [fault.began_s, *(each.ended_s for each in steps if each.ended_s > fault.began_s)]
    return max(later - earlier for earlier, later in pairwise(times))


def _longest_step(run: Run) -> float:
    return max((each.ended_s - each.began_s for each in run.steps() if each.ended_s < run.fault.began_s), default=0)


def _unseen(run: Run) -> list[Attempt]:
    """By session, of those whose view was taken."""
    shown = {view.session: (view.region, set(view.notes)) for view in run.at_failover}
    unseen = []
    for each in run.acknowledged():
        region, notes = shown.get(run.sessions[each.writer], (each.region, set()))
        if each.region != region and each.ended_s < run.fault.healed_s and each.note not in notes:
            unseen.append(each)
    return unseen


def _counted(run: Run, region: str, wrong: Callable[[int], bool]) -> tuple[str, ...]:
    """Acknowledged notes whose number of places in that region's final views is wrong."""
    shown = {view.session: Counter(view.notes) for view in run.final if view.region == region}
    found = ((each.note, shown.get(run.sessions[each.writer])) for each in run.acknowledged())
    return tuple(dict.fromkeys(note for note, notes in found if notes is not None and wrong(notes[note])))


def _unshown(run: Run) -> tuple[str, ...]:
    shown = {(view.region, view.session) for view in run.final}
    wanted = ((region, session) for session in dict.fromkeys(run.sessions.values()) for region in run.regions)
    return tuple(f"{session} in {region}" for region, session in wanted if (region, session) not in shown)


def _unacknowledged(run: Run) -> tuple[str, ...]:
    known = {each.note for each in run.acknowledged()}
    return tuple(dict.fromkeys(note for view in run.final for note in view.notes if note not in known))


def _lost_marks(run: Run) -> tuple[str, ...]:
    """In any region: what was set there while the other side could not see it must be somewhere."""
    lost = []
    for each in run.acknowledged():
        views = [view for view in run.final if view.session == run.sessions[each.writer]]
        if each.mark and any(each.mark not in view.marks for view in views):
            lost.append(each.mark)
    return tuple(dict.fromkeys(lost))


def _conflicting(run: Run) -> int:
    by_session: dict[str, View] = {view.session: view for view in run.final}
    return sum(max(0, len(set(view.marks)) - 1) for view in by_session.values())


def _same(run: Run) -> bool:
    states: dict[str, set[str]] = {}
    for view in run.final:
        states.setdefault(view.session, set()).add(view.state)
    return bool(states) and all(len(texts) == 1 for texts in states.values())


def _by_region(found: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{region} {len(notes)}" for region, notes in found.items())
