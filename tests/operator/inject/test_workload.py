from typing import Any

import pytest

from agentmemory_operator.inject.workload import (
    KINDS,
    TEMPLATES,
    Target,
    WorkloadError,
    consequence,
    problem,
    target,
    template_patch,
)

LABEL = "agentmemory.io/inject"
SESSION = "agentmemory.io/session"


def workload(kind: str = "Deployment", *, template: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    inner: dict[str, Any] = {"template": {"metadata": template or {}}}
    if kind == "CronJob":
        inner = {"jobTemplate": {"spec": inner}}
    return {"kind": kind, "metadata": {"name": "support"}, "spec": inner | spec}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("deploy/support", Target("Deployment", "support")),
        ("Deployment/support", Target("Deployment", "support")),
        ("sts/a", Target("StatefulSet", "a")),
        ("daemonsets/a.b", Target("DaemonSet", "a.b")),
        ("cj/nightly", Target("CronJob", "nightly")),
    ],
)
def test_workloads_are_named_as_kubectl_does(text: str, meant: Target) -> None:
    assert target(text) == meant


@pytest.mark.parametrize("text", ["support", "deploy/", "/support", "deploy/a/b", "svc/a", ""])
def test_what_names_no_workload_is_refused_with_what_does(text: str) -> None:
    with pytest.raises(WorkloadError, match="deploy/NAME, sts/NAME, ds/NAME, cj/NAME"):
        target(text)


@pytest.mark.parametrize("text", ["job/x", "pod/x", "rs/x"])
def test_what_has_no_template_to_change_is_told_where_the_label_goes(text: str) -> None:
    with pytest.raises(WorkloadError, match="cannot be changed: set the label"):
        target(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pod_template_gets_label_and_annotations(kind: str) -> None:
    patch: Any = template_patch(workload(kind), {"session": "{pod}", "memory": "m"}, undo=False)
    for step in TEMPLATES[kind]:
        patch = patch[step]
    assert patch == {
        "metadata": {"labels": {LABEL: "true"}, "annotations": {SESSION: "{pod}", "agentmemory.io/memory": "m"}}
    }


def test_only_what_lacks_is_set() -> None:
    there = {"labels": {LABEL: "true"}, "annotations": {SESSION: "old"}}
    assert template_patch(workload(template=there), {}, undo=False) is None
    assert template_patch(workload(template=there), {"session": "old"}, undo=False) is None
    assert template_patch(workload(template=there), {"session": "new"}, undo=False) == {
        "spec": {"template": {"metadata": {"annotations": {SESSION: "new"}}}}
    }


def test_a_pod_that_was_kept_out_is_let_in() -> None:
    patch = template_patch(workload(template={"labels": {LABEL: "false"}}), {}, undo=False)
    assert patch == {"spec": {"template": {"metadata": {"labels": {LABEL: "true"}}}}}


def test_undo_takes_ours_away_and_nothing_else() -> None:
    there = {"labels": {LABEL: "true", "app": "x"}, "annotations": {SESSION: "s", "other.example/a": "b"}}
    assert template_patch(workload(template=there), {}, undo=True) == {
        "spec": {"template": {"metadata": {"labels": {LABEL: None}, "annotations": {SESSION: None}}}}
    }
    assert template_patch(workload(template={"labels": None}), {}, undo=True) is None


def test_a_selector_that_names_the_label_is_in_the_way() -> None:
    assert "selector" in problem(workload(selector={"matchLabels": {LABEL: "false"}}))
    assert problem(workload(selector={"matchLabels": {"app": "x"}})) == ""
    assert problem(workload("CronJob")) == ""


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (workload(replicas=3), "3 pods of deployment/support restart one after another"),
        (workload(replicas=1), "1 pod of deployment/support restart"),
        (workload(), "1 pod of"),
        (workload(replicas=0), "No pod restarts"),
        (workload(replicas=2, paused=True), "when it is resumed"),
        (workload(replicas=2, strategy={"type": "Recreate"}), "all at once"),
        (workload("StatefulSet", replicas=2, updateStrategy={"type": "OnDelete"}), "delete them"),
        (workload("DaemonSet") | {"status": {"desiredNumberScheduled": 4}}, "4 pods of daemonset/support"),
        (workload("CronJob"), "the next run"),
    ],
)
def test_what_restarts_is_said(found: dict[str, Any], says: str) -> None:
    assert says in "\n".join(consequence(found, "agents"))
