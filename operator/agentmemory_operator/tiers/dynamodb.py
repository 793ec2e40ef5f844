"""The state tier on DynamoDB: a table in every region of the resource, replicated by AWS."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

from agentmemory_operator.act import dynamodb as effects
from agentmemory_operator.aws import Access, Aws
from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.heartbeats import Heartbeats, Site
from agentmemory_operator.kube import Kube
from agentmemory_operator.observe.dynamodb import table_in
from agentmemory_operator.observe.secrets import SecretValues, secret_values
from agentmemory_operator.plan.dynamodb.keep import keep
from agentmemory_operator.plan.dynamodb.leave import leave
from agentmemory_operator.plan.dynamodb.replication import MEASURED, concluded, where
from agentmemory_operator.plan.dynamodb.values import Place, Seen, TableAction, Wanted
from agentmemory_operator.plan.own import Holding, tables
from agentmemory_operator.plan.values import Action, Condition, Plan
from agentmemory_operator.tiers import Subject
from agentmemory_operator.tiers.aws import NoAccess, abandoned, access, leaving, nowhere, owner, settled
from agentmemory_sidecar.resource.agentmemory import DeletionPolicy
from agentmemory_sidecar.resource.base import at
from agentmemory_sidecar.resource.state import Consistency, DynamoDb

log = logging.getLogger(__name__)

GRACE_S = 60.0
"""Heartbeats of a resource go on for two looks and so long after its last one."""


class DynamoDbTier:
    """:class:`~agentmemory_operator.tiers.Tier` for ``spec.state.dynamodb``."""

    def __init__(self, kube: Kube, aws: Aws, heartbeats: Heartbeats | None = None) -> None:
        """:param aws: shared between tiers; the first that closes it closes it for all.
        :param heartbeats: run by somebody else; without, replication is not measured."""
        self._kube = kube
        self._aws = aws
        self._heartbeats = heartbeats or Heartbeats(aws)

    def concerns(self, subject: Subject) -> bool:
        return subject.resource.spec.state.dynamodb is not None

    async def look(self, subject: Subject) -> Plan:
        if problem := nowhere(subject, _declared(subject), subject.settings.aws.dynamodb_endpoint):
            return Plan((), (Condition(ConditionType.STATE_READY, False, Reason.INVALID_SPEC, problem),))
        wanted, values = wanted_table(subject), await self._values(subject)
        seen = await self._seen(subject, wanted, values)
        plan = keep(wanted, seen, settled=settled(subject, ConditionType.STATE_READY))
        return replace(plan, conditions=(*plan.conditions, *self._replication(subject, wanted, seen, values)))

    async def look_back(self, subject: Subject) -> Plan:
        self._heartbeats.forget((subject.namespace, subject.name))
        if subject.observe_only or nowhere(subject, _declared(subject), subject.settings.aws.dynamodb_endpoint):
            return Plan()
        wanted = wanted_table(subject)
        delete = subject.resource.spec.deletion_policy is DeletionPolicy.DELETE
        try:
            seen = await self._seen(subject, wanted, await self._values(subject))
        except NoAccess as error:
            if delete:
                raise
            # A namespace that goes takes its Secrets first. Our tags stay then, which harms nobody.
            log.warning("%s/%s: table keep their ownership tags: %s", subject.namespace, subject.name, error)
            return Plan()
        named = set(abandoned(subject))
        gone = {place.aws_region for place in (*wanted.places, *wanted.leaving) if place.region in named}
        return leave(wanted, seen, delete=delete, abandoned=gone)

    async def act(self, subject: Subject, action: Action) -> None:
        assert isinstance(action, TableAction)
        wanted = wanted_table(subject)
        place = next(p for p in (*wanted.places, *wanted.leaving) if p.aws_region == action.region)
        await effects.act(self._aws, self._access(subject, place, await self._values(subject)), action)

    async def holdings(self, subject: Subject) -> list[Holding]:
        """The table's replicas, for moving them to another owner."""
        wanted = wanted_table(subject)
        return tables(wanted, await self._seen(subject, wanted, await self._values(subject)))

    async def close(self) -> None:
        await self._aws.close()

    def _replication(
        self, subject: Subject, wanted: Wanted, seen: Mapping[str, Seen], values: SecretValues
    ) -> tuple[Condition, ...]:
        """Have the lag measured where the table is ours in several regions, and say what was found."""
        key = (subject.namespace, subject.name)
        if wanted.strong or len(wanted.places) < 2:
            self._heartbeats.forget(key)
            return ()
        there = where(wanted, seen, observe_only=subject.observe_only)
        if isinstance(there, Condition):
            self._heartbeats.forget(key)
            return (there,)
        missing: list[str] = []
        if there is not None:
            sites = [Site(place.region, self._access(subject, place, values)) for place in there]
            self._heartbeats.between(key, wanted.table, sites, 2 * subject.settings.resync.seconds + GRACE_S)
            missing = [place.region for place in wanted.places if place not in there]
        condition = concluded(self._heartbeats.found(key), missing)
        if condition.reason is Reason.PROGRESSING:
            condition = _measured_before(subject) or condition
        return (condition,)

    async def _seen(self, subject: Subject, wanted: Wanted, values: SecretValues) -> Mapping[str, Seen]:
        places = [*wanted.places, *wanted.leaving]
        seen = await asyncio.gather(
            *(
                table_in(self._aws, self._access(subject, place, values), wanted.table, look_inside=wanted.strong)
                for place in places
            )
        )
        return {place.aws_region: table for place, table in zip(places, seen, strict=True)}

    async def _values(self, subject: Subject) -> SecretValues:
        return await secret_values(self._kube, subject.resource)

    def _access(self, subject: Subject, place: Place, values: SecretValues) -> Access:
        store = at(_declared(subject), place.region)
        return access(subject, store, place.region, subject.settings.aws.dynamodb_endpoint, values)


def wanted_table(subject: Subject) -> Wanted:
    """What the resource declares of its table."""
    table = _declared(subject)
    places: dict[str, Place] = {}
    for region in (*subject.resource.spec.regions, *leaving(subject)):
        place = _place(table, region)
        places.setdefault(place.aws_region, place)
    stay = set(subject.resource.spec.regions)
    return Wanted(
        table=table.table,
        places=tuple(place for place in places.values() if place.region in stay),
        owner=owner(subject),
        leaving=tuple(place for place in places.values() if place.region not in stay),
        strong=table.consistency is Consistency.STRONG,
        witness=table.witness_region or "",
        recovery=table.point_in_time_recovery,
        protection=table.deletion_protection,
        tags=table.tags,
        adopt=subject.resource.spec.adopt,
    )


def _measured_before(subject: Subject) -> Condition | None:
    """What an operator before this one found of the replication: it stands until there is something newer."""
    for row in (subject.manifest.get("status") or {}).get("conditions") or ():
        if row.get("type") == ConditionType.REPLICATION_HEALTHY and row.get("reason") in MEASURED:
            status = {"True": True, "False": False}.get(row.get("status", ""))
            return Condition(ConditionType.REPLICATION_HEALTHY, status, Reason(row["reason"]), row.get("message", ""))
    return None


def _place(table: DynamoDb, region: str) -> Place:
    here = at(table, region)
    return Place(region, here.aws_region or region, here.kms_key_arn or "")


def _declared(subject: Subject) -> DynamoDb:
    table = subject.resource.spec.state.dynamodb
    assert table is not None
    return table
