from dataclasses import dataclass

import pytest

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.observed import drift, observed
from agentmemory_operator.plan.values import Action, Condition, Plan


@dataclass(frozen=True, slots=True)
class Step(Action):
    number: int

    def describe(self) -> str:
        return f"step {self.number}"


def plan(status: bool | None, reason: Reason, steps: int = 1) -> Plan:
    condition = Condition(ConditionType.STATE_READY, status, reason, "as it was")
    actions = tuple(Step(number) for number in range(steps))
    return Plan(actions, (condition,), 3.0, withheld=frozenset({"us-east-1"}))


def test_what_would_be_done_is_told_and_not_done() -> None:
    found = observed(plan(None, Reason.CREATING, 7))
    assert found.actions == ()
    assert found.again_s is None  # nothing of ours is under way
    assert found.withheld == {"us-east-1"}
    (condition,) = found.conditions
    assert (condition.status, condition.reason) == (False, Reason.OBSERVE_ONLY)
    assert "left undone: step 0; step 1; step 2; step 3; step 4 and 2 more. Set Full" in condition.message


@pytest.mark.parametrize(("status", "reason"), [(True, Reason.READY), (False, Reason.ACCESS_DENIED)])
def test_what_our_actions_would_not_change_is_told_as_it_is(status: bool, reason: Reason) -> None:
    assert observed(plan(status, reason)).conditions == plan(status, reason).conditions


def test_what_others_bring_about_is_waited_for() -> None:
    moving = plan(False, Reason.CREATING, 0)
    assert observed(moving) == moving


@pytest.mark.parametrize(
    ("lines", "observe_only", "status", "reason"),
    [
        ([], False, False, Reason.NO_DRIFT),
        ([], True, False, Reason.NO_DRIFT),
        (["policy"], False, True, Reason.REPAIRED),
        (["policy"], True, True, Reason.OBSERVE_ONLY),
    ],
)
def test_drift_is_repaired_unless_the_operator_may_only_look(
    lines: list[str], observe_only: bool, status: bool, reason: Reason
) -> None:
    found = drift(lines, observe_only=observe_only)
    assert (found.status, found.reason) == (status, reason)
    assert all(line in found.message for line in lines)
