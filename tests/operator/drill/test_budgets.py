"""Budgets follow the resource."""

from typing import Any

import pytest

from agentmemory_operator.drill.budgets import allowance_s, budgets, skew_s
from agentmemory_sidecar.resource import AgentMemory, parse


def resource(lock_ttl: str = "30s") -> AgentMemory:
    return parse(
        {
            "apiVersion": "agentmemory.io/v1alpha1",
            "kind": "AgentMemory",
            "metadata": {"name": "support"},
            "spec": {
                "ephemeral": {"timeout": "1s"},
                "state": {"timeout": "4s"},
                "session": {"identity": {"headers": ["X-Agent-Session"]}, "lock": {"ttl": lock_ttl}},
            },
        }
    )


def pod(*probes: dict[str, Any], sidecar: dict[str, Any] | None = None) -> dict[str, Any]:
    init = [{"name": "once"}, {"name": "agentmemory", "restartPolicy": "Always", **sidecar}] if sidecar else []
    return {"spec": {"initContainers": init, "containers": [{"name": "c", **probe} for probe in probes]}}


def test_deadlines_and_lock_make_the_budget() -> None:
    found = budgets(resource(), patience_s=2.0)
    assert (found.step_s, found.lock_s) == (10.0, 30.0)
    assert found.outage_s("region", 0.5) == pytest.approx(12.5)
    assert found.outage_s("link", 0.5) == pytest.approx(12.5)
    assert found.outage_s("pod", 0.5) == pytest.approx(42.5)
    assert found.outage_s("pause", 0.5) == pytest.approx(12.5)
    assert found.outage_s("clock", 0.5) == pytest.approx(12.5)


def test_a_cold_start_may_take_what_the_pods_probes_allow() -> None:
    starting = {"startupProbe": {"periodSeconds": 2, "failureThreshold": 90}, "readinessProbe": {"periodSeconds": 5}}
    ready = {"readinessProbe": {"initialDelaySeconds": 4, "periodSeconds": 5}}
    assert allowance_s(pod(starting)) == pytest.approx(180)
    assert allowance_s(pod(ready, {})) == pytest.approx(4 + 15)
    sidecar = {"startupProbe": {"periodSeconds": 1, "failureThreshold": 120}}
    assert allowance_s(pod({}, sidecar=sidecar)) == pytest.approx(120)
    stores, agents = (pod(starting), pod(ready)), (pod({}, sidecar=sidecar), pod({}, sidecar=sidecar))
    found = budgets(resource(), patience_s=2.0, starting=[stores, agents])
    assert found.start_s == pytest.approx(180 + 120)
    assert found.outage_s("cold", 0.5) == pytest.approx(42.5 + 300)
    assert found.outage_s("pod", 0.5) == pytest.approx(42.5)


def test_a_clock_is_further_off_than_a_lock_lives_and_not_too_far_for_aws() -> None:
    assert skew_s(resource("30s")) == pytest.approx(60)
    assert skew_s(resource("10m")) == pytest.approx(240)
