"""Stand-ins for other people's injectors, and the order in which the API server calls injectors.

Each takes a pod and returns it changed, and is idempotent.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import jsonpatch

from agentmemory_operator.inject.patch import inject
from agentmemory_operator.settings import Settings
from tests.operator.inject.goldens import NAMESPACE

Pod = dict[str, Any]
Injector = Callable[[Pod], Pod]


def ours(settings: Settings) -> Injector:
    """Our injector, its patch applied by a library of its own."""

    def injector(pod: Pod) -> Pod:
        decision = inject(pod, NAMESPACE, settings)
        assert decision.allowed, decision.message
        changed: Pod = jsonpatch.apply_patch(pod, list(decision.patch))
        return changed

    return injector


def mesh(pod: Pod) -> Pod:
    """A native sidecar that wants to be first, as Linkerd's and Istio's do."""
    proxy = {"name": "mesh-proxy", "image": "example/mesh:1", "restartPolicy": "Always"}
    return _with(pod, "initContainers", proxy, 0)


def classic(pod: Pod) -> Pod:
    """A sidecar among the containers, which talks to Claude too, through a gateway of its own."""
    env = [{"name": "ANTHROPIC_BASE_URL", "value": "https://gateway.example"}]
    return _with(pod, "containers", {"name": "classic", "image": "example/classic:1", "env": env}, -1)


def appended_init(pod: Pod) -> Pod:
    """An init container that runs to its end, after the others."""
    return _with(pod, "initContainers", {"name": "late-init", "image": "example/init:1"}, -1)


def variables(pod: Pod) -> Pod:
    """A variable and a mount in every container, as EKS' identity webhook does it."""
    pod = copy.deepcopy(pod)
    spec = pod["spec"]
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        env = container.setdefault("env", [])
        if all(entry["name"] != "FOREIGN" for entry in env):
            env.append({"name": "FOREIGN", "value": "1"})
    if all(volume["name"] != "foreign" for volume in spec.setdefault("volumes", [])):
        spec["volumes"].append({"name": "foreign", "emptyDir": {}})
    return pod


def old_types(pod: Pod) -> Pod:
    """Drops the restartPolicy of init containers, as injectors with old types did."""
    pod = copy.deepcopy(pod)
    for container in pod["spec"].get("initContainers", ()):
        container.pop("restartPolicy", None)
    return pod


INJECTORS = (mesh, classic, appended_init, variables)


def admitted(pod: Pod, injectors: Sequence[Injector]) -> Pod:
    """What the API server makes of a pod: each injector in turn, and each once more where a later one changed the pod."""
    seen: list[Pod] = []
    for injector in injectors:
        pod = injector(pod)
        seen.append(pod)
    for injector, result in zip(injectors, seen, strict=True):
        if pod != result:
            pod = injector(pod)
    return pod


def _with(pod: Pod, kind: str, container: Pod, index: int) -> Pod:
    pod = copy.deepcopy(pod)
    there = pod["spec"].setdefault(kind, [])
    if all(each["name"] != container["name"] for each in there):
        there.insert(len(there) if index < 0 else index, container)
    return pod
