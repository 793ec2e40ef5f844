from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.external_redis import Endpoint, Seen, judge

URL, OTHER = "rediss://one:6379", "rediss://two:6379"


def said(*endpoints: Endpoint, **more: object) -> tuple[bool | None, Reason, str]:
    plan = judge({"local": Seen(endpoints, **more)})  # type: ignore[arg-type]
    (condition,) = plan.conditions
    assert plan.actions == ()
    assert plan.provides == {}
    assert (plan.again_s is None) == (condition.status is True)
    return condition.status, condition.reason, condition.message


def test_one_that_answers_is_fine() -> None:
    assert said(Endpoint(URL, policy="noeviction")) == (True, Reason.EXTERNAL, "")


def test_one_that_evicts_is_used_and_mentioned() -> None:
    status, reason, message = said(Endpoint(URL, policy="allkeys-lru"))
    assert (status, reason) == (True, Reason.EXTERNAL)
    assert "allkeys-lru" in message


def test_a_cluster_must_be_declared_and_only_a_cluster() -> None:
    status, reason, message = said(Endpoint(URL, cluster=True, slots=16384))
    assert (status, reason) == (False, Reason.INVALID_SPEC)
    assert "cluster: true" in message
    assert "cluster: false" in said(Endpoint(URL), cluster=True)[2]
    assert said(Endpoint(URL, cluster=True, slots=16384), cluster=True)[1] is Reason.EXTERNAL
    assert said(Endpoint(URL, cluster=True, slots=16000), cluster=True)[1] is Reason.DEGRADED


def test_one_of_several_may_be_away_but_not_refuse() -> None:
    fine = Endpoint(OTHER, cluster=True, slots=16384)
    status, reason, message = said(Endpoint(URL, "no answer in time"), fine, cluster=True)
    assert (status, reason) == (True, Reason.EXTERNAL)
    assert URL in message
    assert said(Endpoint(URL, "WRONGPASS", denied=True), fine, cluster=True)[1] is Reason.ACCESS_DENIED
    assert said(Endpoint(URL, "refused"), Endpoint(OTHER, "refused"))[1] is Reason.UNREACHABLE


def test_a_missing_secret_is_named() -> None:
    status, reason, message = said(unresolved="there is no Secret redis in namespace agents: create it")
    assert (status, reason) == (False, Reason.SECRET_MISSING)
    assert "there is no Secret redis" in message
