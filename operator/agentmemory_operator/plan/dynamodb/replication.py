"""How far the regions of an eventual table are apart, by heartbeats. Pure.

A heartbeat is numbered and goes through one region's endpoint; it has arrived once another region's shows its number. All
times are seconds of one clock, the operator's own, so that no two clocks need agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.aws import Standing
from agentmemory_operator.plan.dynamodb.keep import members
from agentmemory_operator.plan.dynamodb.values import Place, Seen, Wanted
from agentmemory_operator.plan.values import Condition

HEALTHY_S = 30.0
"""The lag from which on replication is said to lag. DynamoDB's own is about a second."""
MEASURED = frozenset(
    {Reason.READY, Reason.REPLICATION_LAGGING, Reason.REGION_UNREACHABLE, Reason.ACCESS_DENIED, Reason.FAILED}
)
"""Reasons that come from a measurement; they hold until the next one, over a restart of the operator too."""
RUNBOOK = "docs/regions.md, 'When replication lags or a region is away'"
_STEPS = ((86400.0, "a day"), (3600.0, "an hour"), (300.0, "5 minutes"), (0.0, "30 seconds"))

Pair = tuple[str, str]
"""From which region, to which."""
Sent = Mapping[int, float]
"""When each acknowledged heartbeat of one region was sent, by number."""


@dataclass(frozen=True, slots=True)
class Track:
    """What is known of the heartbeats of one region at another one's endpoint."""

    seen: int = 0
    """The highest number that was shown; 0 for none."""
    arrived_s: float | None = None
    """How old that one was when it was first seen: the lag is no longer than this."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one resource's heartbeats have shown so far."""

    lags: Mapping[Pair, float | None] = field(default_factory=dict)
    """Seconds; None while nothing has arrived yet and it is too early to say that it should have."""
    away: frozenset[str] = frozenset()
    """Regions whose endpoint did not answer."""
    refused: Mapping[str, tuple[bool, str]] = field(default_factory=dict)
    """Regions whose endpoint said no: whether for want of rights, and its words."""

    @property
    def rpo_s(self) -> float | None:
        """What a region that is lost this moment may take with it: the largest lag. None before the first measurement."""
        return max((lag for lag in self.lags.values() if lag is not None), default=None)


def tracked(before: Track, sent: Sent, number: int, now_s: float) -> Track:
    """After an endpoint has shown ``number`` as the newest."""
    if number <= before.seen:
        return before
    # One whose write was never acknowledged, and that arrived all the same, tells no time.
    arrived_s = now_s - sent[number] if number in sent else before.arrived_s
    return Track(number, arrived_s)


def outstanding(track: Track, sent: Sent) -> list[int]:
    """The heartbeats that have not arrived."""
    return [number for number in sent if number > track.seen]


def lag_s(track: Track, sent: Sent, now_s: float) -> float | None:
    """The age of what arrived last, when it did, or of the oldest that has not arrived, whichever is more."""
    oldest_s = max((now_s - sent[number] for number in outstanding(track, sent)), default=0.0)
    if track.arrived_s is None:
        return oldest_s if oldest_s >= HEALTHY_S else None
    return max(track.arrived_s, oldest_s)


# ---------------------------------------------------------------------------------------------------------- condition


def where(wanted: Wanted, seen: Mapping[str, Seen], *, observe_only: bool) -> tuple[Place, ...] | Condition | None:
    """Between which places heartbeats are to go; a condition that says why there are none; or None where nothing answers,
    so that what went on goes on."""
    if observe_only:
        text = "managementPolicy is ObserveOnly: no heartbeats are written, so the lag between regions is not measured"
        return _unknown(Reason.OBSERVE_ONLY, f"{text}. Set Full to have it measured.")
    if places := members(wanted, seen):
        return places
    if all(seen[place.aws_region].away for place in wanted.places):
        return None
    standings = {seen[place.aws_region].standing(wanted.owner) for place in wanted.places}
    if Standing.ELSEWHERE in standings:
        text = "The operator of another cluster keeps the table, and measures its replication."
        return _unknown(Reason.MANAGED_ELSEWHERE, text)
    return _unknown(Reason.WAITING, "The table does not serve in two regions yet.")


def concluded(findings: Findings, missing: Sequence[str] = ()) -> Condition:
    """What the status says. The text stays the same while nothing changes that somebody would act on: a lag is told in
    coarse steps. ``missing``: regions where the table does not serve yet."""
    if findings.refused:
        (region, (denied, text)) = min(findings.refused.items())
        reason = Reason.ACCESS_DENIED if denied else Reason.FAILED
        return _unhealthy(reason, f"{region}: {text}.")
    if findings.away:
        text = f"The endpoint of {_listed(findings.away)} does not answer the operator"
        return _unhealthy(
            Reason.REGION_UNREACHABLE,
            f"{text}: what is written in other regions may not arrive there. See {RUNBOOK}.",
        )
    late = {pair: lag for pair, lag in findings.lags.items() if lag is not None and lag >= HEALTHY_S}
    if late:
        pairs = ", ".join(
            f"from {here} to {there} (more than {_coarse(late[here, there])})" for here, there in sorted(late)
        )
        sources = _listed({here for here, _ in late})
        text = f"Writes arrive late {pairs}. If {sources} were lost now, the others would not know its last turns"
        return _unhealthy(Reason.REPLICATION_LAGGING, f"{text}. See {RUNBOOK}.")
    if missing:
        return _unknown(Reason.WAITING, f"The table does not serve in {', '.join(missing)} yet.")
    if not findings.lags or None in findings.lags.values():
        return _unknown(Reason.PROGRESSING, "The first heartbeats are under way.")
    return Condition(ConditionType.REPLICATION_HEALTHY, True, Reason.READY)


def _coarse(lag: float) -> str:
    return next(text for least, text in _STEPS if lag >= least)


def _unhealthy(reason: Reason, text: str) -> Condition:
    return Condition(ConditionType.REPLICATION_HEALTHY, False, reason, text)


def _unknown(reason: Reason, text: str) -> Condition:
    return Condition(ConditionType.REPLICATION_HEALTHY, None, reason, text)


def _listed(regions: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(regions))
