"""Pods that ask for the sidecar and run without it. They are reported, never deleted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agentmemory_operator.inject.patch import MIRROR, is_injected
from agentmemory_operator.names import INJECT
from agentmemory_operator.pods import over, renewal


@dataclass(frozen=True, slots=True)
class Finding:
    """One pod. ``message`` says what to do; ``command`` is the part of it to type."""

    namespace: str
    pod: str
    uid: str
    message: str
    command: str


def uninjected(
    pods: Iterable[Mapping[str, Any]], injected_namespaces: frozenset[str] = frozenset()
) -> list[Finding]:  # fmt: skip
    """The pods (raw) that have the label, or are in a namespace that has it, and lack the sidecar; in order of name.

    Pods that have ended or are being deleted are none, and neither are mirror pods, which no webhook sees. In a labelled
    namespace neither are those that cannot have it: on the host's network, or on Windows.
    """
    return sorted(
        (_finding(pod) for pod in pods if _lacks(pod, injected_namespaces)),
        key=lambda finding: (finding.namespace, finding.pod),
    )


def _lacks(pod: Mapping[str, Any], injected_namespaces: frozenset[str]) -> bool:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    label = (metadata.get("labels") or {}).get(INJECT)
    cannot = spec.get("hostNetwork") or (spec.get("os") or {}).get("name") == "windows"
    asks = label == "true" or (label is None and metadata["namespace"] in injected_namespaces and not cannot)
    mirror = MIRROR in (metadata.get("annotations") or {})
    return bool(asks and not over(pod) and not mirror and not is_injected(pod))


def _finding(pod: Mapping[str, Any]) -> Finding:
    metadata = pod["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    command = renewal([metadata])
    message = (
        f"This pod asks for the sidecar and runs without it, so its agents have no memory: it was created while the "
        f"injection webhook was away, or was labelled after its creation. Have it created again: {command}"
    )
    return Finding(namespace, name, metadata.get("uid", ""), message, command)
