import json
from typing import Any

import pytest

from agentmemory_operator.inject.patch import Decision, Reason
from agentmemory_operator.webhook.review import LONGEST_WARNINGS, BadReview, answer, described, read
from tests.operator.inject import goldens
from tests.operator.webhook.asking import patch_of, review

POD = goldens.pod("plain")


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def test_a_review_of_a_pod_is_read() -> None:
    asked = read(encoded(review(POD, uid="u", dryRun=True)))
    assert (asked.uid, asked.namespace, asked.pod, asked.dry_run) == ("u", "agents", POD, True)


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"subResource": "ephemeralcontainers"},
        {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
    ],
)
def test_what_is_no_creation_of_a_pod_has_no_pod(request_: dict[str, Any]) -> None:
    asked = read(encoded(review(POD, **request_)))
    assert asked.pod is None
    assert answer(asked.uid, None)["response"] == {"uid": asked.uid, "allowed": True}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "AdmissionReview"),
        (encoded({**review(POD), "apiVersion": "admission.k8s.io/v1beta1"}), "admission.k8s.io/v1"),
        (encoded({**review(POD), "request": None}), "request.uid"),
        (encoded(review(POD, uid="")), "request.uid"),
        (encoded(review(None)), "not a pod"),
        (encoded(review({"metadata": {}})), "not a pod"),
    ],
)
def test_a_body_that_cannot_be_answered_is_said_to_be_none(body: bytes, says: str) -> None:
    with pytest.raises(BadReview, match=says):
        read(body)


def test_an_answer_carries_patch_and_warnings() -> None:
    patch = ({"op": "add", "path": "/spec/x", "value": "ü"},)
    found = answer("u", Decision(True, Reason.INJECTED, patch, warnings=("agentmemory: mind",)))
    assert (found["apiVersion"], found["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = found["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u", True, "JSONPatch")
    assert patch_of(found) == list(patch)
    assert response["warnings"] == ["agentmemory: mind"]
    assert response["auditAnnotations"] == {"decision": "injected"}


def test_a_refusal_carries_its_message() -> None:
    response = answer("u", Decision(False, Reason.PORT_TAKEN, message="agentmemory: no"))["response"]
    assert response["allowed"] is False
    assert response["status"] == {"code": 422, "reason": "Invalid", "message": "agentmemory: no"}
    assert not {"patch", "patchType", "warnings"} & set(response)


def test_warnings_are_cut_off_between_two() -> None:
    response = answer("u", Decision(True, Reason.COMPLETE, warnings=("w" * 1000,) * 9))["response"]
    assert sum(map(len, response["warnings"])) <= LONGEST_WARNINGS
    assert response["warnings"][-1].endswith("more warnings than fit here")


@pytest.mark.parametrize(
    ("metadata", "name"), [({"name": "a"}, "a"), ({"generateName": "a-"}, "a-"), ({}, "?"), (None, "?")]
)
def test_a_pod_is_described_by_what_name_it_has(metadata: Any, name: str) -> None:
    assert described({"metadata": metadata}) == name
