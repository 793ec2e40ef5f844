"""Which regions this cluster holds."""

from collections.abc import Iterable, Mapping
from typing import Any

from agentmemory_operator.kube import NODE, Kube
from agentmemory_operator.names import NODE_REGION
from agentmemory_operator.settings import Settings
from agentmemory_sidecar.resource import AgentMemory
from agentmemory_sidecar.resource.agentmemory import LOCAL_REGION


async def held_regions(kube: Kube, settings: Settings) -> frozenset[str]:
    """Those of the settings; without any there, those that the nodes' labels name."""
    return frozenset(settings.regions) or labelled(await kube.list(NODE))


def labelled(nodes: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The regions that nodes carry as their label. Those of the control plane count too: it may run pods."""
    names = (node["metadata"].get("labels", {}).get(NODE_REGION) for node in nodes)
    return frozenset(name for name in names if name)


def of_resource(resource: AgentMemory, held: frozenset[str]) -> tuple[str, ...]:
    """The resource's regions that are held here. One that names none has the region ``local``, held everywhere."""
    regions = resource.spec.regions
    return regions if regions == (LOCAL_REGION,) else tuple(region for region in regions if region in held)
