"""A workload that runs already: which change of its pod template asks for the sidecar, or takes it back. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentmemory_operator.inject.options import PREFIX
from agentmemory_operator.names import INJECT

KINDS: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("deployment", "deployments", "deploy"),
    "StatefulSet": ("statefulset", "statefulsets", "sts"),
    "DaemonSet": ("daemonset", "daemonsets", "ds"),
    "CronJob": ("cronjob", "cronjobs", "cj"),
}
"""The kinds with a pod template that can change, and what kubectl calls them."""
TEMPLATES = dict.fromkeys(KINDS, ("spec", "template")) | {"CronJob": ("spec", "jobTemplate", "spec", "template")}


class WorkloadError(Exception):
    """A workload that cannot be changed so. The text is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which workload is meant."""

    kind: str
    name: str

    @property
    def shown(self) -> str:
        return f"{KINDS[self.kind][0]}/{self.name}"


def target(text: str) -> Target:
    """Read ``KIND/NAME``. Raises WorkloadError."""
    written, slash, name = text.partition("/")
    kind = next((kind for kind, words in KINDS.items() if written.lower() in words), "")
    if kind and slash and name and "/" not in name:
        return Target(kind, name)
    if written.lower() in ("job", "jobs", "pod", "pods", "po", "replicaset", "replicasets", "rs"):
        raise WorkloadError(
            f'{text}: the pod template of a {written} cannot be changed: set the label {INJECT}: "true" where it is made, '
            "or name its Deployment or CronJob"
        )
    known = ", ".join(f"{words[-1]}/NAME" for words in KINDS.values())
    raise WorkloadError(f"{text}: is no workload: write one of {known}")


def template_patch(
    workload: Mapping[str, Any], annotations: Mapping[str, str], *, undo: bool
) -> dict[str, Any] | None:  # fmt: skip
    """A merge patch for the workload (raw), or None if it has all of that already.

    ``annotations`` are set by their names without prefix. ``undo`` takes our label and every annotation of ours away.
    """
    path = TEMPLATES[str(workload["kind"])]
    template: Any = workload
    for step in path:
        template = template[step]
    metadata = template.get("metadata") or {}
    labels, present = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if undo:
        wanted_labels: dict[str, str | None] = {INJECT: None} if INJECT in labels else {}
        wanted: dict[str, str | None] = {key: None for key in present if key.startswith(PREFIX)}
    else:
        wanted_labels = {INJECT: "true"} if labels.get(INJECT) != "true" else {}
        wanted = {PREFIX + name: value for name, value in annotations.items() if present.get(PREFIX + name) != value}
    change = {name: each for name, each in (("labels", wanted_labels), ("annotations", wanted)) if each}
    if not change:
        return None
    patch: dict[str, Any] = {"metadata": change}
    for step in reversed(path):
        patch = {step: patch}
    return patch


def problem(workload: Mapping[str, Any]) -> str:
    """Why pods of this workload could not be injected although they ask; empty for nothing that is known here."""
    spec = workload.get("spec") or {}
    if str(workload["kind"]) in ("Deployment", "StatefulSet") and INJECT in (
        (spec.get("selector") or {}).get("matchLabels") or {}
    ):
        return f"its selector names {INJECT}, which cannot change: take the label out of the selector first"
    return ""


def consequence(workload: Mapping[str, Any], namespace: str) -> Sequence[str]:
    """What happens to the workload's pods after the change, in lines to print."""
    kind, name, spec = str(workload["kind"]), workload["metadata"]["name"], workload.get("spec") or {}
    shown = f"{KINDS[kind][0]}/{name}"
    if kind == "CronJob":
        return [f"No pod restarts: the next run of {shown} has the change."]
    if kind == "DaemonSet":
        pods = (workload.get("status") or {}).get("desiredNumberScheduled", 0)
    else:
        pods = spec.get("replicas", 1)
    strategy = (spec.get("strategy") or spec.get("updateStrategy") or {}).get("type", "RollingUpdate")
    if not pods:
        return [f"No pod restarts: {shown} has none."]
    if spec.get("paused"):
        return [
            f"{shown} is paused: its pods restart when it is resumed (kubectl -n {namespace} rollout resume {shown})."
        ]
    count = f"{pods} pod{'s' if pods > 1 else ''} of {shown}"
    if strategy == "OnDelete":
        return [f"The {count} keep running as they are: delete them to restart them (updateStrategy OnDelete)."]
    how = "all at once" if strategy == "Recreate" else "one after another, as its update strategy says"
    return [
        f"The {count} restart {how}. Watch it with:",
        f"    kubectl -n {namespace} rollout status {shown}",
    ]
