"""The state tier on CosmosDB: database and container in the user's account."""

import asyncio

from agentmemory_operator.act import cosmosdb as effects
from agentmemory_operator.conditions import ConditionType
from agentmemory_operator.cosmosdb import Account
from agentmemory_operator.kube import Kube
from agentmemory_operator.observe.cosmosdb import account_at
from agentmemory_operator.observe.secrets import SecretValues, secret_values
from agentmemory_operator.plan.cosmosdb import CosmosAction, Wanted, keep
from agentmemory_operator.plan.values import Action, Plan
from agentmemory_operator.tiers import Subject, TierFailed
from agentmemory_operator.tiers.aws import settled
from agentmemory_sidecar.resource import Unresolved
from agentmemory_sidecar.resource.base import at
from agentmemory_sidecar.resource.common import ValueFrom
from agentmemory_sidecar.resource.state import CosmosDb


class CosmosDbTier:
    """:class:`~agentmemory_operator.tiers.Tier` for ``spec.state.cosmosdb``."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def concerns(self, subject: Subject) -> bool:
        return subject.resource.spec.state.cosmosdb is not None

    async def look(self, subject: Subject) -> Plan:
        accounts = await self._accounts(subject)
        wanted = _wanted(subject, accounts)
        distinct = {account.endpoint: account for account in accounts.values()}
        seen = await asyncio.gather(
            *(account_at(account, wanted.database, wanted.container) for account in distinct.values())
        )
        return keep(wanted, dict(zip(distinct, seen, strict=True)), settled=settled(subject, ConditionType.STATE_READY))

    async def look_back(self, subject: Subject) -> Plan:
        """Nothing: a container carries no mark of whose it is, and may hold other resources' data."""
        return Plan()

    async def act(self, subject: Subject, action: Action) -> None:
        assert isinstance(action, CosmosAction)
        for account in (await self._accounts(subject)).values():
            if account.endpoint == action.account:
                await effects.act(account, action)
                return

    async def close(self) -> None:
        """Nothing of its own."""

    async def _accounts(self, subject: Subject) -> dict[str, Account]:
        """By region."""
        values = await secret_values(self._kube, subject.resource)
        declared = _declared(subject)
        return {region: _account(at(declared, region), values) for region in subject.resource.spec.regions}


def _wanted(subject: Subject, accounts: dict[str, Account]) -> Wanted:
    declared = _declared(subject)
    endpoints = {region: account.endpoint for region, account in accounts.items()}
    return Wanted(declared.database, declared.container, endpoints, declared.max_throughput or 0)


def _account(access: CosmosDb, values: SecretValues) -> Account:
    """Raises TierFailed, naming the field."""

    def value(source: ValueFrom, field: str) -> str:
        try:
            return values.resolve(source)
        except Unresolved as error:
            raise TierFailed(f"spec.state.cosmosdb.{field}: {error}") from None

    if access.key_from is None:
        text = "give the account's key: with a workload identity alone Azure lets nobody make databases and containers"
        raise TierFailed(f"spec.state.cosmosdb.keyFrom: {text}")
    ca = access.tls.ca_from if access.tls else None
    assert access.endpoint is not None  # checked with the resource
    return Account(access.endpoint, value(access.key_from, "keyFrom"), value(ca, "tls.caFrom") if ca else "")


def _declared(subject: Subject) -> CosmosDb:
    declared = subject.resource.spec.state.cosmosdb
    assert declared is not None
    return declared
