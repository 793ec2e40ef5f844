from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.values import Condition
from agentmemory_operator.report.status import NEEDED, changes, merged, status, summary

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOOD = tuple(Condition(kind, True, Reason.READY) for kind in NEEDED)


def resource(rows: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"name": "support", "namespace": "agents", "generation": 3},
        "status": {"conditions": rows or []},
    }


def test_of_several_voices_on_one_matter_the_worst_is_heard() -> None:
    said = (
        Condition(ConditionType.STATE_READY, True, Reason.READY, "fine"),
        Condition(ConditionType.STATE_READY, False, Reason.UNREACHABLE, "us-west-2 is gone"),
        Condition(ConditionType.STATE_READY, None, Reason.CREATING, "soon"),
        Condition(ConditionType.STATE_READY, False, Reason.FAILED, "us-east-1 too"),
    )
    assert merged(said) == (
        Condition(ConditionType.STATE_READY, False, Reason.UNREACHABLE, "us-west-2 is gone us-east-1 too"),
    )


def test_ready_means_that_everything_needed_is() -> None:
    assert summary(GOOD) == Condition(ConditionType.READY, True, Reason.READY)
    drifting = Condition(ConditionType.DRIFT_DETECTED, True, Reason.REPAIRED, "bucket policy")
    assert summary((*GOOD, drifting)).status is True


def test_what_stands_in_the_way_is_named_the_worst_first() -> None:
    waiting = Condition(ConditionType.REDIS_READY, None, Reason.FORMING, "2/3 shards")
    broken = Condition(ConditionType.ARCHIVE_READY, False, Reason.ADOPTION_REFUSED, "bucket x is somebody else's")
    found = summary((GOOD[0], waiting, GOOD[2], broken))
    assert found.status is False
    assert found.reason is Reason.ADOPTION_REFUSED
    assert found.message == "ArchiveReady: bucket x is somebody else's"
    assert summary((GOOD[0], waiting, *GOOD[2:])).status is None


@pytest.mark.parametrize("missing", range(len(NEEDED)))
def test_what_was_not_looked_at_is_not_ready(missing: int) -> None:
    found = summary(tuple(c for number, c in enumerate(GOOD) if number != missing))
    assert found.status is None
    assert NEEDED[missing] in found.message


def test_a_time_moves_only_with_its_status() -> None:
    first = status(resource(), GOOD, {}, NOW)
    later = NOW + timedelta(hours=1)
    changed = (Condition(NEEDED[0], False, Reason.SECRET_MISSING, "x"), Condition(NEEDED[1], True, Reason.EXTERNAL))
    rows = status(resource(first["conditions"]), (*changed, *GOOD[2:]), {}, later)["conditions"]
    assert rows[0]["lastTransitionTime"] == "2026-11-22T13:00:00Z"
    assert {row["lastTransitionTime"] for row in rows[1:]} == {"2026-11-22T12:00:00Z"}
    assert rows[1]["reason"] == "External"


def test_the_same_look_gives_the_same_status_so_that_nothing_is_written() -> None:
    regions = {"us-east-1": {"ready": True}, "us-west-2": {"ready": False, "stores": "forming"}}
    first = status(resource(), GOOD, regions, NOW)
    assert status(resource(first["conditions"]), GOOD, regions, NOW + timedelta(days=1)) == first
    assert first["regionsReady"] == "1/2"
    assert first["observedGeneration"] == 3


def test_an_event_tells_what_changed_and_no_more() -> None:
    drift = Condition(ConditionType.DRIFT_DETECTED, False, Reason.NO_DRIFT)
    first = status(resource(), (*GOOD, drift), {}, NOW)
    assert [row["type"] for _, row in changes(resource(), first)] == list(NEEDED)
    assert changes(resource(first["conditions"]), first) == []
    repaired = Condition(ConditionType.DRIFT_DETECTED, True, Reason.REPAIRED, "policy")
    second = status(resource(first["conditions"]), (*GOOD, repaired), {}, NOW)
    assert [(kind, row["reason"]) for kind, row in changes(resource(first["conditions"]), second)] == [
        ("Warning", "Repaired")
    ]
