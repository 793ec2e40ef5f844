"""What a pod says of who made it. Pure."""

from collections.abc import Mapping
from typing import Any


def controller(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The owner reference of what controls a pod; empty for none."""
    owners = metadata.get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), {})


def workload(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and name of what a pod was made by, as far as the pod alone tells it; empty for nothing.

    A ReplicaSet stands for its Deployment where the pod carries the hash that tells the two names apart.
    """
    owner = controller(metadata)
    kind, name = str(owner.get("kind") or ""), str(owner.get("name") or "")
    suffix = (metadata.get("labels") or {}).get("pod-template-hash")
    if kind == "ReplicaSet" and suffix:
        return "Deployment", name.removesuffix(f"-{suffix}")
    return kind, name
