"""State tier and archive in a Postgres that somebody else runs: its tables, and nothing more."""

import asyncio
from dataclasses import dataclass

from agentmemory_operator.act.postgres import migrate
from agentmemory_operator.kube import Kube
from agentmemory_operator.observe.postgres import database_at
from agentmemory_operator.observe.secrets import SecretValues, secret_values
from agentmemory_operator.plan.postgres import Migrate, Tier, Use, keep
from agentmemory_operator.plan.values import Action, Plan
from agentmemory_operator.postgres import Login
from agentmemory_operator.tiers import Subject, TierFailed
from agentmemory_sidecar.layout.postgres import NEEDED
from agentmemory_sidecar.resource import Unresolved, cloudnativepg
from agentmemory_sidecar.resource.base import at
from agentmemory_sidecar.resource.common import ValueFrom
from agentmemory_sidecar.resource.state import Postgres
from agentmemory_sidecar.resource.values import dsn_problem


@dataclass(frozen=True, slots=True)
class Logins:
    """As whom the operator makes a database's tables, and as whom the sidecars use them."""

    admin: Login
    sidecars: Login


class PostgresTier:
    """:class:`~agentmemory_operator.tiers.Tier` for ``spec.state.postgres``, or for ``spec.archive.postgres``."""

    def __init__(self, kube: Kube, tier: Tier) -> None:
        self._kube = kube
        self._tier = tier

    def concerns(self, subject: Subject) -> bool:
        return self._declared(subject) is not None

    async def look(self, subject: Subject) -> Plan:
        uses, databases = await self._databases(subject)
        seen = await asyncio.gather(*(database_at(each.admin, each.sidecars) for each in databases.values()))
        return keep(self._tier, uses, dict(zip(databases, seen, strict=True)), NEEDED)

    async def look_back(self, subject: Subject) -> Plan:
        """Nothing: the tables may hold other resources' data, and the database is somebody else's."""
        return Plan()

    async def act(self, subject: Subject, action: Action) -> None:
        assert isinstance(action, Migrate)
        _, databases = await self._databases(subject)
        if action.database in databases:  # else the resource names another one by now
            await migrate(databases[action.database].admin)

    async def close(self) -> None:
        """Nothing of its own."""

    def _declared(self, subject: Subject) -> Postgres | None:
        spec = subject.resource.spec
        return spec.state.postgres if self._tier == "state" else spec.archive.postgres

    async def _databases(self, subject: Subject) -> tuple[list[Use], dict[str, Logins]]:
        declared = self._declared(subject)
        assert declared is not None
        values = await secret_values(self._kube, subject.resource)
        uses: list[Use] = []
        databases: dict[str, Logins] = {}
        for region in subject.resource.spec.regions:
            logins = _logins(subject, self._tier, declared, region, values)
            name = next((known for known, other in databases.items() if other == logins), f"{self._tier} in {region}")
            databases[name] = logins
            uses.append(Use(region, name))
        return uses, databases


def _logins(subject: Subject, tier: Tier, postgres: Postgres, region: str, values: SecretValues) -> Logins:
    """Raises TierFailed, naming the field."""
    access = at(postgres, region)
    path = f"spec.{tier}.postgres"

    def value(source: ValueFrom | None, field: str) -> str:
        try:
            return values.resolve(source) if source else ""
        except Unresolved as error:
            raise TierFailed(f"{path}.{field}: {error}") from None

    tls = access.tls
    ca_pem = value(tls.ca_from if tls else None, "tls.caFrom")
    if access.cluster_ref:
        try:
            dsn = cloudnativepg.login(access.cluster_ref, subject.namespace, values)
            ca_pem = ca_pem if tls else cloudnativepg.authority(access.cluster_ref, values)
        except Unresolved as error:
            raise TierFailed(f"{path}.clusterRef: {error}") from None
    else:
        dsn = access.dsn.get_secret_value() if access.dsn else value(access.dsn_from, "dsnFrom")
    admin = value(access.admin_dsn_from, "adminDsnFrom") or dsn
    for text, field in ((dsn, "dsnFrom"), (admin, "adminDsnFrom")):
        if problem := dsn_problem(text):
            raise TierFailed(f"{path}.{field}: what it names {problem}")
    verified = tls is not None or access.cluster_ref is not None
    certificate = value(tls.certificate_from if tls else None, "tls.certificateFrom")
    key = value(tls.key_from if tls else None, "tls.keyFrom")
    sidecars = Login(dsn, verified, ca_pem, certificate, key)
    return Logins(Login(admin, verified, ca_pem, certificate, key), sidecars)
