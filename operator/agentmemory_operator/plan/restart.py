"""Which agents' pods a change of ours reaches only when they are made anew. The operator never touches them. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from agentmemory_operator import names
from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.values import Condition
from agentmemory_operator.pods import over, renewal

SIDECAR = "agentmemory"
"""The injected container's name."""


def restart(running: Iterable[Mapping[str, Any]], image: str, secrets: frozenset[str]) -> Condition:
    """Say which pods that mount one of ``secrets`` run another image of the sidecar than ``image``."""
    old = [pod for pod in running if _mounts(pod, secrets) and _outdated(pod, image) and not over(pod)]
    if not old:
        return Condition(ConditionType.RESTART_NEEDED, False, Reason.UP_TO_DATE)
    text = f"{len(old)} pods run another sidecar than {image}: {renewal(pod['metadata'] for pod in old)}"
    return Condition(ConditionType.RESTART_NEEDED, True, Reason.POD_TEMPLATE_CHANGED, text)


def _mounts(pod: Mapping[str, Any], secrets: frozenset[str]) -> bool:
    volumes = pod["spec"].get("volumes") or ()
    return any(volume.get("secret", {}).get("secretName") in secrets for volume in volumes)


def _outdated(pod: Mapping[str, Any], image: str) -> bool:
    chosen = pod["metadata"].get("annotations", {}).get(f"{names.GROUP}/image")
    containers = pod["spec"].get("initContainers") or ()
    return any(item["name"] == SIDECAR and item["image"] != (chosen or image) for item in containers)
