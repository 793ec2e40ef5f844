from typing import Any

import pytest

from agentmemory_operator.pods import over, renewal, workload


def metadata(kind: str, owner: str, name: str = "p") -> dict[str, Any]:
    owners = [{"kind": kind, "name": owner, "controller": True}] if kind else []
    labels = {"pod-template-hash": "5f6"}
    return {"name": name, "namespace": "agents", "labels": labels, "ownerReferences": owners}


@pytest.mark.parametrize(
    ("owner", "named"),
    [
        ({"kind": "StatefulSet", "name": "db", "controller": True}, ("StatefulSet", "db")),
        ({"kind": "ReplicaSet", "name": "chat-5f6", "controller": True}, ("Deployment", "chat")),
        ({"kind": "Something", "name": "x"}, ("", "")),
    ],
)
def test_the_workload_is_what_made_the_pod(owner: dict[str, Any], named: tuple[str, str]) -> None:
    assert workload({"name": "p", "labels": {"pod-template-hash": "5f6"}, "ownerReferences": [owner]}) == named


@pytest.mark.parametrize(
    ("pod", "command"),
    [
        (metadata("ReplicaSet", "chat-5f6"), "kubectl -n agents rollout restart deployment/chat"),
        (metadata("DaemonSet", "d"), "kubectl -n agents rollout restart daemonset/d"),
        (metadata("Job", "nightly"), "kubectl -n agents delete pod p"),
        (metadata("Sandbox", "s"), "kubectl -n agents delete pod p"),
        (metadata("", ""), "kubectl -n agents get pod p -o yaml | kubectl replace --force -f -"),
    ],
)
def test_each_pod_is_made_anew_by_what_made_it(pod: dict[str, Any], command: str) -> None:
    assert renewal([pod]) == command


def test_many_pods_are_one_command_for_each_way() -> None:
    several = [metadata("StatefulSet", "db", name) for name in "ab"] + [metadata("Job", "j", str(n)) for n in range(7)]
    assert renewal(several) == (
        "kubectl -n agents rollout restart statefulset/db; kubectl -n agents delete pod 0 1 2 3 4 (and 2 more)"
    )


@pytest.mark.parametrize(
    ("change", "ended"),
    [
        ({}, False),
        ({"status": {"phase": "Running"}}, False),
        ({"status": {"phase": "Failed"}}, True),
        ({"metadata": {"deletionTimestamp": "2026-11-22T12:00:00Z"}}, True),
    ],
)
def test_a_pod_that_ended_or_goes_is_over(change: dict[str, Any], ended: bool) -> None:
    assert over({"metadata": {}} | change) is ended
