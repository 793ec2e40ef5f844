"""What a drill finds on its clusters, and what it puts there for as long as it lasts."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from agentmemory_operator import names
from agentmemory_operator.drill.cluster import SIDECAR, Agents, Kubectl, KubectlFailed, Place
from agentmemory_operator.drill.course import DrillFailed

Pod = dict[str, Any]
STARTED_S = 300
REDIS = "agentmemory-redis"
STORES = (REDIS, "agentmemory-stores")
"""What the operator's pods are called by the label ``app.kubernetes.io/name``, of those that hold a tier."""


class CannotDrill(Exception):
    """Nothing was done. The text says why, and what to do."""


async def node_region(kubectl: Kubectl, region: str, *, shared: bool) -> str:
    """What the agents of a region ask of their nodes: the region's label, where nodes of their cluster carry it. Who may not
    look at nodes is told by ``shared``, that regions have one context."""
    try:
        found = await kubectl.json("get", "nodes", "-l", f"{names.NODE_REGION}={region}")
    except KubectlFailed:
        return region if shared else ""
    return region if found["items"] else ""


async def injected(place: Place, agents: Agents) -> Pod:
    """An agent's pod as the webhook makes it, which is asked and makes none; without an image of its own it has the
    sidecar's, where Python is. Raises CannotDrill."""
    manifest = agents.manifest()
    template = manifest["spec"]["template"]
    if not agents.image:
        template["spec"]["containers"][0]["image"] = "none"
    meta = {**template["metadata"], "name": agents.name, "namespace": agents.namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    try:
        made: Pod = await place.kubectl.json("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    except KubectlFailed as error:
        raise CannotDrill(f"{place.region}: {error}") from None
    found = sidecar(made)
    if not found:
        raise CannotDrill(f"{place.region}: pods get no sidecar here: is the operator's webhook installed and running?")
    if not agents.image:
        agent = made["spec"]["containers"][0]
        agent["image"] = found["image"]
        agent.pop("imagePullPolicy", None)  # which was chosen for the other image
    return made


def sidecar(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The sidecar's container; empty for none."""
    found = (each for each in pod["spec"].get("initContainers", ()) if each["name"] == SIDECAR)
    return next(found, {})


def probe_port(pod: Mapping[str, Any]) -> int:
    """The sidecar's port for the kubelet."""
    return int(sidecar(pod)["ports"][0]["containerPort"])


async def stores(places: Iterable[Place], memory: str, also: Sequence[str]) -> dict[Place, list[Pod]]:
    """The pods that hold a resource's tiers: those that the operator made, and others of its namespace by their labels.
    Those of a cluster that is several regions' are told once. Raises CannotDrill."""
    ours = f"{names.RESOURCE}={names.label(memory)},{names.APP} in ({','.join(STORES)})"
    found: dict[Place, list[Pod]] = {}
    known: set[str] = set()
    for place in places:
        for selector in (ours, *also):
            try:
                listed = await place.kubectl.json("-n", place.namespace, "get", "pods", "-l", selector)
            except KubectlFailed as error:
                raise CannotDrill(f"{place.region}: {error}") from None
            new = [pod for pod in listed["items"] if pod["metadata"]["uid"] not in known]
            known |= {pod["metadata"]["uid"] for pod in new}
            found.setdefault(place, []).extend(new)
    return {place: pods for place, pods in found.items() if pods}


def is_cache(pod: Mapping[str, Any]) -> bool:
    """Whether turns go on without it."""
    return bool(pod["metadata"].get("labels", {}).get(names.APP) == REDIS)


@asynccontextmanager
async def started(made: Sequence[tuple[Place, dict[str, Any]]]) -> AsyncIterator[None]:
    """Deployments, one for each place, for as long as this lasts. Raises DrillFailed."""
    try:
        for place, manifest in made:
            await _tried(place, "apply", "-f", "-", stdin=json.dumps(manifest))
        for place, _ in made:
            status = ("rollout", "status", f"deployment/{place.name}", f"--timeout={STARTED_S}s")
            await _tried(place, "-n", place.namespace, *status, timeout_s=STARTED_S + 10)
        yield
    finally:
        left = []
        for place, _ in made:
            gone = ("delete", "deployment", place.name, "--ignore-not-found", "--wait=false")
            try:
                await _tried(place, "-n", place.namespace, *gone)
            except DrillFailed as error:
                left.append(f"{error}: delete Deployment {place.namespace}/{place.name} there")
        if left:
            raise DrillFailed("; ".join(left))


async def _tried(place: Place, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> None:
    try:
        await place.kubectl.run(*arguments, stdin=stdin, timeout_s=timeout_s)
    except KubectlFailed as error:
        raise DrillFailed(f"{place.region}: {error}") from None
