"""What becomes of a plan where the operator may only look. Pure."""

from dataclasses import replace

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.values import Condition, Plan

UNDER_WAY = frozenset(
    {
        Reason.PROGRESSING,
        Reason.CREATING,
        Reason.FORMING,
        Reason.HEALING,
        Reason.SCALING,
        Reason.ROLLING,
        Reason.REPLICATING,
        Reason.WAITING,
    }
)
"""What a plan says of its own actions, and what is not so where they are left undone."""
SHOWN = 5


def observed(plan: Plan) -> Plan:
    """The same plan without its actions. What they would have brought about is said not to be so, and why."""
    if not plan.actions:
        return plan
    steps = [action.describe() for action in plan.actions]
    more = f" and {len(steps) - SHOWN} more" if len(steps) > SHOWN else ""
    text = _left_undone("; ".join(steps[:SHOWN]) + more)
    conditions = tuple(
        Condition(each.type, False, Reason.OBSERVE_ONLY, text) if _tells_of_it(each) else each
        for each in plan.conditions
    )
    return replace(plan, actions=(), conditions=conditions, again_s=None)


def _tells_of_it(condition: Condition) -> bool:
    return condition.status is not True and condition.reason in UNDER_WAY


def drift(lines: list[str], *, observe_only: bool) -> Condition:
    """What somebody else changed of the stores, and whether it was put right."""
    if not lines:
        return Condition(ConditionType.DRIFT_DETECTED, False, Reason.NO_DRIFT)
    text = "; ".join(lines)
    if observe_only:
        return Condition(ConditionType.DRIFT_DETECTED, True, Reason.OBSERVE_ONLY, _left_undone(text))
    return Condition(ConditionType.DRIFT_DETECTED, True, Reason.REPAIRED, text)


def _left_undone(text: str) -> str:
    return f"managementPolicy is ObserveOnly, and this is left undone: {text}. Set Full to have it done."
