"""What a pod says of who made it, and what makes it anew. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

ROLLED = ("Deployment", "StatefulSet", "DaemonSet")
"""The kinds that `kubectl rollout restart` knows."""
SHOWN = 5
OVER = ("Succeeded", "Failed")


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


def over(pod: Mapping[str, Any]) -> bool:
    """Whether a pod (raw) has ended or is being deleted."""
    return bool(pod["metadata"].get("deletionTimestamp") or (pod.get("status") or {}).get("phase") in OVER)


def renewal(pods: Iterable[Mapping[str, Any]]) -> str:
    """The commands that have pods of one namespace (their metadata) made anew, `; ` between them. Each names a few at most.

    A Job and any other controller makes another pod for one that is deleted; a Job counts it as a failed try.
    """
    rolled, deleted, bare, namespace = set[str](), set[str](), set[str](), ""
    for metadata in pods:
        namespace = metadata["namespace"]
        kind, name = workload(metadata)
        if kind in ROLLED:
            rolled.add(f"{kind.lower()}/{name}")
        else:
            (deleted if kind else bare).add(str(metadata["name"]))
    commands = (
        _command(namespace, "rollout restart", rolled),
        _command(namespace, "delete pod", deleted),
        _command(namespace, "get pod", bare, " -o yaml | kubectl replace --force -f -"),
    )
    return "; ".join(filter(None, commands))


def _command(namespace: str, verb: str, names: Iterable[str], rest: str = "") -> str:
    known = sorted(names)
    more = f" (and {len(known) - SHOWN} more)" if len(known) > SHOWN else ""
    return f"kubectl -n {namespace} {verb} {' '.join(known[:SHOWN])}{rest}{more}" if known else ""
