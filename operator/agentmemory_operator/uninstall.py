"""What must happen before `helm uninstall` deletes anything: the chart runs it as a hook.

With resources there it refuses, unless told. Told, it takes the webhook away first, so that no pod waits for a server
that is going; then the operator, which would put its finalizers back; then the finalizers, so that no namespace waits for
an operator that is gone. Resources, stores and running agents stay as they are for the next installation.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentmemory_operator.kube import AGENTMEMORY, DEPLOYMENT, MUTATING_WEBHOOKS, POD, Kind, Kube, KubeError, NotFound
from agentmemory_operator.names import FINALIZER, GROUP
from agentmemory_operator.settings import Settings

ANNOTATION = f"{GROUP}/uninstall"
"""On the operator's Deployment: ``force`` tells the uninstall to let go of resources. `helm uninstall` takes no values."""
POLICY_BINDINGS = Kind(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False
)
_NAMED = 10
_POLL_S = 1.0
_TRIES = 5


class Refused(Exception):
    """Nothing was touched. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What is being uninstalled."""

    settings: Settings
    deployment: str
    """The operator's, in ``settings.operator_namespace``."""


async def uninstall(
    kube: Kube, what: Installed, *, force: bool, timeout_s: float, say: Callable[[str], None] = lambda line: None
) -> None:
    """Make everything ready to be deleted; can be run again. ``say`` gets a line for each thing done.

    Raises Refused while there are resources and nobody told to let go of them, and TimeoutError where the operator's
    pods do not end.
    """
    namespace = what.settings.operator_namespace
    deployment = await kube.get(DEPLOYMENT, namespace, what.deployment)
    resources = await _resources(kube, what.settings.namespaces)
    if resources and not (force or told(deployment)):
        raise Refused(refusal(resources, namespace, what.deployment))
    configuration = what.settings.webhook.configuration
    await kube.delete(MUTATING_WEBHOOKS, "", configuration)
    for asked in ("pod", "namespace"):
        await kube.delete(POLICY_BINDINGS, "", f"{configuration}-sidecar-{asked}")
    say(f"the webhook {configuration} is gone: pods start without the sidecar from now on")
    if not resources:
        return
    if deployment:
        await _stop(kube, deployment, timeout_s)
        say(f"the operator {namespace}/{what.deployment} has stopped")
    for resource in await _resources(kube, what.settings.namespaces):
        await _release(kube, resource)
        say(f"{_name(resource)} is let go of; its stores and data stay")


def told(deployment: Mapping[str, Any] | None) -> bool:
    """Whether the operator's Deployment says that resources may stay behind."""
    return ((deployment or {}).get("metadata", {}).get("annotations") or {}).get(ANNOTATION) == "force"


def refusal(resources: Sequence[Mapping[str, Any]], namespace: str, deployment: str) -> str:
    """Why nothing is uninstalled, and how to go on."""
    names = sorted(_name(resource) for resource in resources)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    count = f"are {len(names)} AgentMemory resources" if len(names) > 1 else "is 1 AgentMemory resource"
    return (
        f"refused, and nothing was changed: there {count} ({', '.join(names[:_NAMED])}{more}). Either delete them, while "
        "the operator is there to carry out their deletionPolicy: kubectl delete agentmemory --all --all-namespaces. Or "
        "leave them, their data and the agents as they are: "
        f"kubectl -n {namespace} annotate deployment {deployment} {ANNOTATION}=force. Then uninstall again."
    )


def without_finalizer(resource: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The JSON Patch that takes our finalizer away, and nobody else's; empty where it is not there."""
    finalizers = resource["metadata"].get("finalizers") or []
    if FINALIZER not in finalizers:
        return []
    path = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
    return [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]


def _name(resource: Mapping[str, Any]) -> str:
    return f"{resource['metadata']['namespace']}/{resource['metadata']['name']}"


async def _resources(kube: Kube, namespaces: Sequence[str]) -> list[dict[str, Any]]:
    """All that this installation serves; none where nobody knows the kind any more."""
    try:
        return [item for namespace in namespaces or ("",) for item in await kube.list(AGENTMEMORY, namespace)]
    except NotFound:
        return []


async def _stop(kube: Kube, deployment: Mapping[str, Any], timeout_s: float) -> None:
    meta = deployment["metadata"]
    labels = ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())
    await kube.patch(DEPLOYMENT, meta["namespace"], meta["name"], {"spec": {"replicas": 0}})
    end = time.monotonic() + timeout_s
    while pods := await kube.list(POD, meta["namespace"], labels=labels):
        if time.monotonic() > end:
            names = ", ".join(pod["metadata"]["name"] for pod in pods)
            raise TimeoutError(f"the operator's pods do not end: {names}. See what keeps them, then uninstall again.")
        await asyncio.sleep(_POLL_S)


async def _release(kube: Kube, resource: Mapping[str, Any]) -> None:
    meta = resource["metadata"]
    found: Mapping[str, Any] | None = resource
    for attempt in range(_TRIES):
        if found is None or not (patch := without_finalizer(found)):
            return
        try:
            await kube.patch(AGENTMEMORY, meta["namespace"], meta["name"], patch)
            return
        except NotFound:
            return
        except KubeError:  # Somebody else changed the list: look again.
            if attempt == _TRIES - 1:
                raise
            found = await kube.get(AGENTMEMORY, meta["namespace"], meta["name"])
