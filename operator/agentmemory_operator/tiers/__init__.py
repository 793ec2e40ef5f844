"""One module for each kind of store: what it observes, plans and does, behind one protocol for the reconcile loop."""

from dataclasses import dataclass
from typing import Any, Protocol

from agentmemory_operator.plan.values import Action, Plan
from agentmemory_operator.settings import Settings
from agentmemory_sidecar.resource import AgentMemory


@dataclass(frozen=True, slots=True)
class Subject:
    """What one cycle is about."""

    resource: AgentMemory
    """The resource, validated."""
    manifest: dict[str, Any]
    """The same as the API server has it, with uid, annotations and status."""
    settings: Settings
    held: tuple[str, ...]
    """The regions of the resource that this cluster holds, in the resource's order: in-cluster things are made only
    for these. Outside stores (AWS, Postgres) are made for all regions by the operator that owns them."""

    @property
    def name(self) -> str:
        return self.resource.metadata.name

    @property
    def namespace(self) -> str:
        return self.resource.metadata.namespace

    @property
    def observe_only(self) -> bool:
        return self.resource.spec.management_policy == "ObserveOnly"


class Tier(Protocol):
    """A kind of store. ``observe/`` reads, ``plan/`` decides (pure), ``act/`` does; this ties the three together.

    ``look`` and ``act`` may raise KubeError, KubeUnreachable or TierFailed; the loop turns them into a condition and
    tries again later. With ``managementPolicy: ObserveOnly`` the loop carries out no action; plans need not care.
    """

    def concerns(self, subject: Subject) -> bool:
        """Whether the resource declares this kind of store."""
        ...

    async def look(self, subject: Subject) -> Plan:
        """Observe, and plan what brings it to what is declared."""
        ...

    async def look_back(self, subject: Subject) -> Plan:
        """Observe, and plan how to leave: the resource is being deleted. Honours ``deletionPolicy``: with Retain
        ownership marks are given up and the data stays; with Delete what we made (and only that) goes. No actions left
        and ``again_s`` None mean that nothing stands in the way any more."""
        ...

    async def act(self, subject: Subject, action: Action) -> None:
        """Carry out one action of a plan of this tier."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class TierFailed(Exception):
    """An effect or a look failed in a way that time or somebody may mend. The text says what, and what to do."""
