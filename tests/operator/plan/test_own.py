import pytest

from agentmemory_operator.plan.aws import CLUSTER, RESOURCE, TENANT, Owner
from agentmemory_operator.plan.dynamodb.values import UntagTable
from agentmemory_operator.plan.own import Holding, moves

OWNER = Owner("acme", "two", "agents/support")
MOVE = UntagTable("t", "us-east-1", "arn", ())
ELSEWHERE = Owner("acme", "one", "agents/support").tags(())


def test_what_the_same_resource_has_elsewhere_is_moved_and_no_more() -> None:
    found = moves(
        [
            Holding("A", MOVE, tags=ELSEWHERE),
            Holding("B", MOVE, tags=OWNER.tags(())),
            Holding("C", MOVE, tags={TENANT: "acme", RESOURCE: "agents/support"}),
            Holding("D", MOVE),
            Holding("E", MOVE, there=False),
        ],
        OWNER,
    )
    assert (found.actions, found.problems, found.away) == ((MOVE,), (), False)
    assert found.lines == (
        "A goes from cluster one to cluster two.",
        "B belongs to cluster two already.",
        "C was given up: the operator of cluster two takes it back by itself.",
        "D is nobody's: spec.adopt: true lets the operator take it.",
        "E is not there.",
    )


def test_a_region_that_is_away_stops_no_other() -> None:
    found = moves([Holding("A", MOVE, away="no answer"), Holding("B", MOVE, tags=ELSEWHERE)], OWNER)
    assert (found.actions, found.away) == ((MOVE,), True)
    assert "A cannot be looked at, and stays as it is: no answer" in found.lines


@pytest.mark.parametrize(
    ("holding", "says"),
    [
        (Holding("A", MOVE, tags={**ELSEWHERE, TENANT: "other"}), "A belongs to agents/support of tenant other"),
        (Holding("A", MOVE, tags={**ELSEWHERE, RESOURCE: "x/y"}), "A belongs to x/y of tenant acme"),
        (Holding("A", MOVE, foreign="A is in another region"), "A is in another region"),
    ],
)
def test_what_is_another_resources_is_a_problem(holding: Holding, says: str) -> None:
    (problem,) = moves([holding], OWNER).problems
    assert problem.startswith(says)
    assert CLUSTER not in problem
