"""AdmissionReview v1: what the API server asks, and what it is told. Pure."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentmemory_operator.inject.patch import Decision

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
LONGEST_WARNINGS = 4096
"""Bytes of warnings that the API server passes on; it cuts off the rest in the middle."""


class BadReview(Exception):
    """A body that is no review that can be answered. The text says what is wrong, and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Review:
    """One request. ``pod`` is None where it is not about the creation of a pod."""

    uid: str
    namespace: str
    pod: dict[str, Any] | None
    dry_run: bool = False


def read(body: bytes) -> Review:
    """Raises BadReview."""
    try:
        review = json.loads(body)
    except ValueError:
        raise BadReview("the body is not JSON") from None
    if not isinstance(review, dict) or (review.get("apiVersion"), review.get("kind")) != (API_VERSION, KIND):
        raise BadReview(f"the body is not an {KIND} of {API_VERSION}")
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str) or not request["uid"]:
        raise BadReview("request.uid is missing")
    kind = request.get("kind") or {}
    creates_pod = (kind.get("group"), kind.get("version"), kind.get("kind")) == ("", "v1", "Pod")
    creates_pod = creates_pod and request.get("operation") == "CREATE" and not request.get("subResource")
    pod = request.get("object") if creates_pod else None
    if creates_pod and not (isinstance(pod, dict) and isinstance(pod.get("spec"), dict)):
        raise BadReview("request.object is not a pod")
    return Review(request["uid"], str(request.get("namespace", "")), pod, bool(request.get("dryRun")))


def answer(uid: str, decision: Decision | None) -> dict[str, Any]:
    """The review to send back; with no decision, a request that is not ours is let through."""
    response: dict[str, Any] = {"uid": uid, "allowed": decision is None or decision.allowed}
    if decision is not None:
        response["auditAnnotations"] = {"decision": str(decision.reason)}
        if warnings := _fitting(decision.warnings):
            response["warnings"] = warnings
        if decision.patch:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(json.dumps(decision.patch).encode()).decode()
        if not decision.allowed:
            response["status"] = {"code": 422, "reason": "Invalid", "message": decision.message}
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}


def described(pod: Mapping[str, Any]) -> str:
    """What a log calls a pod that may have no name yet."""
    metadata = pod.get("metadata") or {}
    return str(metadata.get("name") or metadata.get("generateName") or "?")


def _fitting(warnings: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for warning in warnings:
        if sum(map(len, found)) + len(warning) > LONGEST_WARNINGS:
            return [*found[:-1], "agentmemory: there are more warnings than fit here"]
        found.append(warning)
    return found
