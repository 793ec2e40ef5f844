"""The embedded tiers: one StatefulSet of the laptop's own stores."""

import secrets

from agentmemory_operator import names
from agentmemory_operator.act import kube as act_kube
from agentmemory_operator.kube import POD, SERVICE, STATEFUL_SET, VOLUME_CLAIM, Conflict, Kube
from agentmemory_operator.observe.secrets import secret_data
from agentmemory_operator.plan import embedded
from agentmemory_operator.plan.values import Action, Plan
from agentmemory_operator.secretdata import encoded
from agentmemory_operator.tiers import Subject


class EmbeddedTier:
    """See :class:`agentmemory_operator.tiers.Tier`."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def concerns(self, subject: Subject) -> bool:
        return bool(embedded.tiers(subject.resource))

    async def look(self, subject: Subject) -> Plan:
        if not subject.held:
            return Plan()
        return embedded.plan(subject.resource, subject.settings, subject.held, await self._observe(subject))

    async def look_back(self, subject: Subject) -> Plan:
        return embedded.plan_leaving(subject.resource, await self._observe(subject))

    async def act(self, subject: Subject, action: Action) -> None:
        if not isinstance(action, embedded.MakePasswords):
            return await act_kube.act(self._kube, action)
        fields = (embedded.VALKEY_PASSWORD, embedded.POSTGRES_PASSWORD)
        data = encoded({key: secrets.token_urlsafe(24) for key in fields})
        try:
            await self._kube.create({**action.manifest, "type": "Opaque", "data": data})
        except Conflict:
            return None  # made in the meantime: what is there is used

    async def close(self) -> None:
        return None

    async def _observe(self, subject: Subject) -> embedded.Seen:
        kube, namespace, name = self._kube, subject.namespace, embedded.name(subject.resource)
        data = await secret_data(kube, namespace, name)
        mine = f"{names.APP}={embedded.APP},{names.RESOURCE}={names.label(subject.name)}"
        return embedded.Seen(
            passwords={key: value.decode() for key, value in data.items()} if data else None,
            service=await kube.get(SERVICE, namespace, name),
            stateful_set=await kube.get(STATEFUL_SET, namespace, name),
            claims=tuple(await kube.list(VOLUME_CLAIM, namespace, labels=mine)),
            pods=tuple(await kube.list(POD, namespace, labels=mine)),
        )
