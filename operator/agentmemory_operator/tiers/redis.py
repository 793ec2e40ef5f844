"""Redis, managed: a Redis Cluster in each region that this cluster holds."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from agentmemory_operator.act import kube as act_kube
from agentmemory_operator.act import redis as act_redis
from agentmemory_operator.act import redis_keys
from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.kube import SECRET, Kube
from agentmemory_operator.observe import redis as observe
from agentmemory_operator.observe.redis_nodes import NodeLinks
from agentmemory_operator.plan.redis.manifests import selector
from agentmemory_operator.plan.redis.region import FORMED, MarkFormed, Outcome, plan_leaving, plan_region
from agentmemory_operator.plan.redis.secrets import IssueCertificate, Keys, KeysAction
from agentmemory_operator.plan.redis.users import REPLICA
from agentmemory_operator.plan.redis.values import Decision, NodeAction
from agentmemory_operator.plan.values import Action, Condition, Plan
from agentmemory_operator.tiers import Subject
from agentmemory_operator.tiers.aws import leaving
from agentmemory_operator.tiers.redis_metrics import Told, forget, tell
from agentmemory_sidecar.resource.agentmemory import DeletionPolicy

LEAVING_S = 2.0
WORST = (
    Reason.DATA_AT_RISK, Reason.NO_NODES, Reason.DEGRADED, Reason.CREATING, Reason.FORMING, Reason.HEALING,
    Reason.REPLICATING, Reason.SCALING, Reason.ROLLING, Reason.PROGRESSING, Reason.READY,
)  # fmt: skip
"""The condition's reason is the first of these that some region has."""


class _Memory:
    """What is kept of one region between looks: connections, and since when a symptom lasts. Losing it costs time."""

    def __init__(self) -> None:
        self.links = NodeLinks()
        self.keys: Keys | None = None
        self.told: Told = frozenset()
        self._since: dict[str, float] = {}

    def waited(self, now: float) -> dict[str, float]:
        return {symptom: now - since for symptom, since in self._since.items()}

    def note(self, decision: Decision, now: float) -> None:
        since = {symptom: self._since.get(symptom, now) for symptom in decision.symptoms}
        self._since = since | dict.fromkeys(decision.begins, now)


class RedisTier:
    """See :class:`agentmemory_operator.tiers.Tier`."""

    def __init__(self, kube: Kube, now: Callable[[], float] = time.time) -> None:
        self._kube, self._now = kube, now
        self._memories: dict[tuple[str, str, str], _Memory] = {}

    def concerns(self, subject: Subject) -> bool:
        redis = subject.resource.spec.ephemeral.redis
        return redis is not None and redis.managed is not None

    async def look(self, subject: Subject) -> Plan:
        left = await self._left(subject)
        if not subject.held:
            return left
        found = await asyncio.gather(*(self._region(subject, region) for region in subject.held))
        plan = _together(dict(zip(subject.held, found, strict=True)))
        waits = [wait for wait in (plan.again_s, left.again_s) if wait is not None]
        return replace(plan, actions=(*plan.actions, *left.actions), again_s=min(waits, default=None))

    async def _left(self, subject: Subject) -> Plan:
        """Regions that were taken out of the resource and named as leaving."""
        plans = [await self._leave(subject, region) for region in leaving(subject)]
        actions = tuple(action for plan in plans for action in plan.actions)
        return Plan(actions, again_s=LEAVING_S if any(plan.again_s for plan in plans) else None)

    async def _region(self, subject: Subject, region: str) -> Outcome:
        memory = self._memory(subject, region)
        place = await observe.placed(self._kube, subject, region)
        now, ticks = self._now(), time.monotonic()
        seen = await observe.region(self._kube, place, memory.links, subject, memory.waited(ticks), now)
        memory.keys = seen.keys
        memory.told = tell(subject.name, seen.cluster, memory.told)
        outcome = plan_region(place, seen)
        memory.note(outcome.decision, ticks)
        return outcome

    async def look_back(self, subject: Subject) -> Plan:
        return await self._leave(subject)

    async def _leave(self, subject: Subject, region: str = "") -> Plan:
        """Leave a region, or all of them."""
        for key in [key for key in self._memories if key[:2] == (subject.namespace, subject.name)]:
            if region in ("", key[2]):
                memory = self._memories.pop(key)
                await memory.links.close()
                forget(memory.told)
        found = await observe.objects(self._kube, subject.namespace, selector(subject.resource, region))
        delete = subject.resource.spec.deletion_policy is DeletionPolicy.DELETE
        actions = plan_leaving(tuple(row for rows in found.values() for row in rows), delete=delete)
        if not actions and not found["Pod"]:
            return Plan()
        text = f"waiting for {len(found['Pod'])} Redis pods to end"
        return Plan(actions, (Condition(ConditionType.DELETING, None, Reason.WAITING, text),), LEAVING_S)

    async def act(self, subject: Subject, action: Action) -> None:
        match action:
            case NodeAction():
                memory = self._memory(subject, action.region)
                assert memory.keys is not None
                await act_redis.act(memory.links, action, memory.keys.users, memory.keys.passwords(REPLICA)[0])
            case KeysAction() | IssueCertificate():
                await redis_keys.act(self._kube, action, self._now())
            case MarkFormed(namespace=namespace, name=name):
                body = {"metadata": {"annotations": {FORMED: "true"}}}
                await self._kube.patch(SECRET, namespace, name, body)
            case _:
                await act_kube.act(self._kube, action)

    async def close(self) -> None:
        for memory in self._memories.values():
            await memory.links.close()

    def _memory(self, subject: Subject, region: str) -> _Memory:
        return self._memories.setdefault((subject.namespace, subject.name, region), _Memory())


def _together(regions: dict[str, Outcome]) -> Plan:
    """One plan of all regions; each waits for itself."""
    waits = [outcome.decision.again_s for outcome in regions.values() if outcome.decision.again_s is not None]
    return Plan(
        actions=tuple(action for outcome in regions.values() for action in outcome.actions),
        conditions=(_condition(regions),),
        again_s=min(waits, default=None),
        provides={region: outcome.provides for region, outcome in regions.items() if outcome.provides},
        drift=tuple(line for outcome in regions.values() for line in outcome.drift),
        notes={region: outcome.note for region, outcome in regions.items() if outcome.note},
    )


def _condition(regions: dict[str, Outcome]) -> Condition:
    reasons = {outcome.decision.reason for outcome in regions.values()}
    reason = next((each for each in WORST if each in reasons), Reason.PROGRESSING)
    return Condition(ConditionType.REDIS_READY, _ready(regions.values()), reason, _text(regions))


def _ready(outcomes: Iterable[Outcome]) -> bool | None:
    """True while every slot of every region is served; unknown while a region is being made."""
    outcomes = tuple(outcomes)
    if all(outcome.ready for outcome in outcomes):
        return True
    return None if all(outcome.ready or outcome.young for outcome in outcomes) else False


def _text(regions: dict[str, Outcome]) -> str:
    told = [(region, outcome.decision.message) for region, outcome in regions.items() if outcome.decision.message]
    if len(regions) == 1:
        return told[0][1] if told else ""
    return "; ".join(f"{region}: {message}" for region, message in told)
