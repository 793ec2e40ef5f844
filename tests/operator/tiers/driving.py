"""Drives one real tier through cycles, as the operator's loop does."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentmemory_operator.plan.values import Condition, Plan
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers import Subject, Tier
from agentmemory_sidecar.resource import parse


class Killed(BaseException):
    """The operator's process ends here."""


def manifest(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A resource as the API server has it."""
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": "support", "namespace": "agents", "uid": "1", "generation": 1, **metadata},
        "spec": spec,
    }


@dataclass(slots=True)
class Driver:
    """One operator process. ``make`` makes its tier: a killed operator is another driver with the same arguments."""

    make: Callable[[], Tier]
    resource: dict[str, Any]
    settings: Settings = field(default_factory=Settings)
    effects: list[str] = field(default_factory=list)
    last: Plan = field(default_factory=Plan)
    tier: Tier = field(init=False)

    def __post_init__(self) -> None:
        self.tier = self.make()

    @property
    def subject(self) -> Subject:
        resource = parse({key: value for key, value in self.resource.items() if key != "status"}, source="test")
        return Subject(resource, self.resource, self.settings, resource.spec.regions)

    async def cycle(self, *, leaving: bool = False, kill_after: int = -1) -> Plan:
        """One look, and all its actions. ``kill_after`` counts actions over the driver's life, from 0."""
        subject = self.subject
        assert self.tier.concerns(subject)
        self.last = await (self.tier.look_back(subject) if leaving else self.tier.look(subject))
        if not subject.observe_only or leaving:
            for action in self.last.actions:
                await self.tier.act(subject, action)
                self.effects.append(action.describe())
                if len(self.effects) - 1 == kill_after:
                    raise Killed
        self._report()
        return self.last

    async def settle(self, *, leaving: bool = False, kill_after: int = -1) -> Plan:
        """Cycles until one has nothing to do."""
        for _ in range(40):
            plan = await self.cycle(leaving=leaving, kill_after=kill_after)
            if not plan.actions:
                return plan
            await asyncio.sleep(0)
        raise AssertionError(f"never settles: {self.effects[-8:]}")

    @property
    def condition(self) -> Condition:
        (condition,) = (each for each in self.last.conditions if each.type in ("StateReady", "ArchiveReady"))
        return condition

    def _report(self) -> None:
        generation = self.resource["metadata"]["generation"]
        self.resource["status"] = {
            "conditions": [
                {"type": str(each.type), "status": str(each.status), "observedGeneration": generation}
                for each in self.last.conditions
            ]
        }


Make = Callable[[dict[str, Any]], Driver]
