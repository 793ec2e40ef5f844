"""Making pods anew."""

import dataclasses

from agentmemory_operator.plan.redis.rolling import roll, unstick
from agentmemory_operator.plan.redis.values import Cluster, Failover, Shape
from agentmemory_operator.plan.values import Remove
from tests.operator.plan.redis.test_topology import cluster, three

SHAPE = Shape(3, 1)


def outdated(*names: str) -> Cluster:
    seen = cluster(three())
    pods = tuple(dataclasses.replace(pod, outdated=pod.name in names) for pod in seen.pods)
    return dataclasses.replace(seen, pods=pods)


def test_nothing_to_roll() -> None:
    assert roll(outdated(), SHAPE) is None


def test_replicas_go_before_primaries_one_at_a_time() -> None:
    decision = roll(outdated("r-0-0", "r-0-1", "r-2-1"), SHAPE)
    assert decision is not None
    (action,) = decision.actions
    assert isinstance(action, Remove)
    assert action.name == "r-0-1"


def test_a_primary_steps_down_first_and_is_asked_once() -> None:
    seen = outdated("r-0-0")
    decision = roll(seen, SHAPE)
    assert decision is not None
    (action,) = decision.actions
    assert isinstance(action, Failover)
    assert (action.pod, action.how) == ("r-0-1", "")
    assert decision.begins == {"failover:r-0-0"}
    for waited, actions in ((0.0, 0), (3.0, 0), (11.0, 1)):
        decision = roll(dataclasses.replace(seen, waited={"failover:r-0-0": waited}), SHAPE)
        assert decision is not None
        assert len(decision.actions) == actions


def test_a_primary_without_a_replica_goes_as_it_is() -> None:
    seen = outdated("r-0-0")
    alone = dataclasses.replace(seen, pods=tuple(pod for pod in seen.pods if pod.ordinal == 0), expected=3)
    decision = roll(alone, Shape(3, 0))
    assert decision is not None
    assert isinstance(decision.actions[0], Remove)


def test_only_a_pod_of_an_old_template_that_cannot_start_is_made_anew_out_of_turn() -> None:
    seen = outdated("r-0-1")
    broken = tuple(
        dataclasses.replace(pod, node=None, trouble="ErrImagePull") if pod.name in ("r-0-1", "r-1-1") else pod
        for pod in seen.pods
    )
    decision = unstick(dataclasses.replace(seen, pods=broken))
    assert decision is not None
    assert [action.name for action in decision.actions if isinstance(action, Remove)] == ["r-0-1"]
    assert unstick(seen) is None
