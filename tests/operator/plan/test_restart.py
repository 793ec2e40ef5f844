from typing import Any

import pytest

from agentmemory_operator.plan.restart import restart

OURS = frozenset({"agentmemory-config-support"})


def pod(name: str, image: str, secret: str = "agentmemory-config-support", **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "agents",
            "annotations": annotations,
            "labels": {"pod-template-hash": "5f6"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "chat-5f6", "controller": True}],
        },
        "spec": {
            "initContainers": [{"name": "first", "image": "x"}, {"name": "agentmemory", "image": image}],
            "volumes": [{"name": "agentmemory-config", "secret": {"secretName": secret}}],
        },
    }


def test_pods_with_another_sidecar_are_counted_and_the_command_is_named() -> None:
    found = restart([pod("a", "s:1"), pod("b", "s:1"), pod("c", "s:2")], "s:2", OURS)
    assert found.status is True
    assert found.message == "2 pods run another sidecar than s:2: kubectl -n agents rollout restart deployment/chat"


@pytest.mark.parametrize(
    "other",
    [
        pod("current", "s:2"),
        pod("of another resource", "s:1", secret="agentmemory-config-other"),
        pod("chose its own", "s:1", **{"agentmemory.io/image": "s:1"}),
        pod("has ended", "s:1") | {"status": {"phase": "Succeeded"}},
        {"metadata": {"name": "no sidecar", "namespace": "agents"}, "spec": {}},
    ],
)
def test_others_need_no_restart(other: dict[str, Any]) -> None:
    assert restart([other], "s:2", OURS).status is False
