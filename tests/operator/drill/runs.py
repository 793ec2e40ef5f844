"""Records of drills that never were."""

from typing import Any

from agentmemory_operator.drill.ledger import Attempt, Fault, Outcome, Run, View

EAST, WEST = "us-east-1", "us-west-2"
FAULT = Fault("region", EAST, 10.0, 30.0)


def attempt(number: int, region: str, began: float, ended: float, **more: Any) -> Attempt:
    more = {"writer": "a", "outcome": Outcome.ACKNOWLEDGED, **more}
    return Attempt(
        number=number, note=f"{more['writer']}/{number}/{region}", region=region, began_s=began, ended_s=ended, **more
    )


def view(region: str, *notes: str, session: str = "s", marks: tuple[str, ...] = (), state: str = "{}") -> View:
    return View(region, session, notes, marks, state)


def run(*attempts: Attempt, **more: Any) -> Run:
    """Both regions show at the end what was acknowledged, unless ``more`` says otherwise."""
    notes = [each.note for each in attempts if each.outcome is Outcome.ACKNOWLEDGED]
    given: dict[str, Any] = {
        "regions": (EAST, WEST),
        "sessions": {"a": "s"},
        "fault": FAULT,
        "at_failover": (),
        "final": (view(EAST, *notes), view(WEST, *notes)),
        "ended_s": max(each.ended_s for each in attempts),
    }
    return Run(attempts=attempts, **{**given, **more})
