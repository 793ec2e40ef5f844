"""Budgets follow the resource."""

import pytest

from agentmemory_operator.drill.budgets import budgets
from agentmemory_sidecar.resource import parse


def test_deadlines_and_lock_make_the_budget() -> None:
    resource = parse(
        {
            "apiVersion": "agentmemory.io/v1alpha1",
            "kind": "AgentMemory",
            "metadata": {"name": "support"},
            "spec": {
                "ephemeral": {"timeout": "1s"},
                "state": {"timeout": "4s"},
                "session": {"identity": {"headers": ["X-Agent-Session"]}, "lock": {"ttl": "30s"}},
            },
        }
    )
    found = budgets(resource, patience_s=2.0)
    assert (found.step_s, found.lock_s) == (10.0, 30.0)
    assert found.outage_s("region", 0.5) == pytest.approx(12.5)
    assert found.outage_s("link", 0.5) == pytest.approx(12.5)
    assert found.outage_s("pod", 0.5) == pytest.approx(42.5)
