"""Redis, external: asked, and never changed."""

import asyncio

from agentmemory_operator.kube import Kube
from agentmemory_operator.observe import external_redis as observe
from agentmemory_operator.observe.secrets import secret_values
from agentmemory_operator.plan.external_redis import judge
from agentmemory_operator.plan.values import Action, Plan
from agentmemory_operator.tiers import Subject
from agentmemory_sidecar.resource.base import at


class ExternalRedisTier:
    """See :class:`agentmemory_operator.tiers.Tier`. Each region's Redis is asked by the operator that holds the region:
    others may have no way there."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def concerns(self, subject: Subject) -> bool:
        redis = subject.resource.spec.ephemeral.redis
        return redis is not None and redis.external is not None

    async def look(self, subject: Subject) -> Plan:
        redis = subject.resource.spec.ephemeral.redis
        assert redis is not None
        assert redis.external is not None
        external = redis.external
        if not subject.held:
            return Plan()
        values = await secret_values(self._kube, subject.resource)
        seen = await asyncio.gather(*(observe.look(at(external, region), values) for region in subject.held))
        return judge(dict(zip(subject.held, seen, strict=True)))

    async def look_back(self, subject: Subject) -> Plan:
        """Nothing is ours there; what sidecars left in it expires by itself."""
        return Plan()

    async def act(self, subject: Subject, action: Action) -> None:
        raise TypeError(f"an external Redis is never changed: {type(action).__name__}")

    async def close(self) -> None:
        """Nothing is kept open."""
