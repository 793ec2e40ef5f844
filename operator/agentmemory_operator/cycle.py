"""One cycle of one resource, top to bottom: observe → plan → act → report. Everything is read anew each time."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from agentmemory_operator import names
from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.configure import Configured, configure, unconfigure
from agentmemory_operator.kube import AGENTMEMORY, POD, Kube, KubeError, KubeUnreachable, Object
from agentmemory_operator.observe.regions import held_regions, of_resource
from agentmemory_operator.plan.observed import drift, observed
from agentmemory_operator.plan.restart import restart
from agentmemory_operator.plan.values import Action, Condition, Plan
from agentmemory_operator.report import events, status
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers import Subject, Tier, TierFailed
from agentmemory_sidecar.resource import ResourceError, parse
from agentmemory_sidecar.resource.agentmemory import DeletionPolicy

log = logging.getLogger(__name__)

SOON_S = 10.0
"""How long until another try after something failed."""

Fault = Callable[[str], None]
"""Called before and after every effect, with its description: tests stop a reconcile there."""


@dataclass(frozen=True, slots=True)
class StoreTier:
    """A tier, and the conditions that it speaks for (which are Unknown or False when it cannot be looked at)."""

    tier: Tier
    conditions: tuple[ConditionType, ...]


@dataclass(frozen=True, slots=True)
class World:
    """What a cycle works with."""

    kube: Kube
    settings: Settings
    tiers: tuple[StoreTier, ...]
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    fault: Fault = field(default=lambda effect: None)


async def cycle(world: World, namespace: str, name: str) -> float:
    """Bring one resource a step nearer to what it declares. Returns the seconds until it should be looked at again.

    Raises KubeUnreachable and KubeError where the resource itself cannot be read or its status not be written.
    """
    manifest = await world.kube.get(AGENTMEMORY, namespace, name)
    if manifest is None or manifest["metadata"].get("deletionTimestamp"):
        return world.settings.resync.seconds
    try:
        subject = await _subject(world, manifest)
    except ResourceError as error:
        wrong = Condition(ConditionType.CONFIGURED, False, Reason.INVALID_SPEC, _lines(error))
        await _report(world, manifest, (wrong,), {})
        return world.settings.resync.seconds
    plans = await _tiers(world, subject)
    configured = await configure(world.kube, subject, plans, _effect(world, subject))
    conditions = [condition for plan in plans for condition in plan.conditions]
    drifted = drift([line for plan in plans for line in plan.drift], observe_only=subject.observe_only)
    conditions += [*configured.conditions, drifted, *_unheld(subject), await _restart(world, subject)]
    await _report(world, manifest, conditions, _regions(subject, plans, configured))
    waits = [plan.again_s for plan in plans if plan.again_s is not None]
    return min([world.settings.resync.seconds, *waits, *([configured.again_s] if configured.again_s else [])])


async def leave(world: World, namespace: str, name: str) -> list[str]:
    """A step of a resource's deletion. Returns what still stands in the way, one line each; empty when it may go."""
    manifest = await world.kube.get(AGENTMEMORY, namespace, name)
    if manifest is None:
        return []
    try:
        subject = await _subject(world, manifest)
    except ResourceError:
        return []  # It never was anything: nothing of it can have been made.
    plans = await _tiers(world, subject, leaving=True)
    waiting = [plan for plan in plans if plan.again_s is not None or plan.actions]
    lines = [c.message or c.reason for plan in waiting for c in plan.conditions if c.status is not True]
    lines = list(dict.fromkeys(lines)) or (["stores are being released"] if waiting else [])
    if lines:
        await _report(world, manifest, (Condition(ConditionType.DELETING, True, Reason.WAITING, " ".join(lines)),), {})
        return lines
    await unconfigure(world.kube, subject, _effect(world, subject))
    if subject.observe_only or subject.resource.spec.deletion_policy is DeletionPolicy.RETAIN:
        await _tell_what_stays(world, subject)
    return []


async def _tell_what_stays(world: World, subject: Subject) -> None:
    policy = "managementPolicy is ObserveOnly" if subject.observe_only else "deletionPolicy is Retain"
    note = (
        f"{policy}: the stores stay with all that is in them, and so does Secret {names.keys_secret(subject.name)}, without "
        "which nobody can read it. A resource of the same name in this namespace takes them back."
    )
    reason = Reason.RETAINED.value
    said = events.event(subject.manifest, "Normal", reason, note, action="Delete", now=world.now())
    await events.post(world.kube, said)


async def _subject(world: World, manifest: Object) -> Subject:
    source = f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
    resource = parse({key: value for key, value in manifest.items() if key != "status"}, source=source)
    held = await held_regions(world.kube, world.settings)
    return Subject(resource, manifest, world.settings, of_resource(resource, held))


# ---------------------------------------------------------------------------------------------------------------- tiers


async def _tiers(world: World, subject: Subject, *, leaving: bool = False) -> list[Plan]:
    """Look at every tier that the resource declares, side by side, and carry out what they plan."""
    chosen = [entry for entry in world.tiers if entry.tier.concerns(subject)]
    return list(await asyncio.gather(*(_tier(world, entry, subject, leaving=leaving) for entry in chosen)))


async def _tier(world: World, entry: StoreTier, subject: Subject, *, leaving: bool) -> Plan:
    """One tier's part. Whatever goes wrong here is this tier's condition, and stops no other tier."""
    effect = _effect(world, subject)
    plan = Plan()
    try:
        plan = await (entry.tier.look_back(subject) if leaving else entry.tier.look(subject))
        if subject.observe_only:
            return replace(plan, actions=(), again_s=None) if leaving else observed(plan)
        for action in plan.actions:
            await effect(action, entry.tier.act(subject, action))
    except (KubeError, KubeUnreachable, TierFailed) as error:
        log.warning("%s/%s: %s", subject.namespace, subject.name, error)
        reason = Reason.FAILED if isinstance(error, TierFailed) else Reason.UNREACHABLE
        if isinstance(error, KubeError):
            reason = Reason.ACCESS_DENIED if error.status == 403 else Reason.FAILED
        failed = tuple(Condition(kind, False, reason, str(error)) for kind in entry.conditions)
        kept = tuple(c for c in plan.conditions if c.type not in entry.conditions)
        return replace(plan, conditions=(*kept, *failed), again_s=SOON_S)
    return plan


def _effect(world: World, subject: Subject) -> "Effect":
    return Effect(world.fault, f"{subject.namespace}/{subject.name}")


@dataclass(frozen=True, slots=True)
class Effect:
    """Carries an effect out between its two fault points, with one line in the log."""

    fault: Fault
    about: str

    async def __call__(self, action: Action, doing: Any) -> None:
        text = action.describe()
        try:
            self.fault(f"before {text}")
        except BaseException:
            doing.close()
            raise
        log.info("%s: %s", self.about, text)
        await doing
        self.fault(f"after {text}")


# --------------------------------------------------------------------------------------------------------------- report


async def _restart(world: World, subject: Subject) -> Condition:
    """Agents' pods with an older sidecar. Those that name no resource are counted for each that could be theirs."""
    pods = await world.kube.list(POD, subject.namespace)
    secrets = frozenset({names.config_secret(subject.name), names.DEFAULT_CONFIG_SECRET})
    return restart(pods, world.settings.images.sidecar, secrets)


def _unheld(subject: Subject) -> tuple[Condition, ...]:
    if subject.held:
        return ()
    text = (
        f"this cluster holds none of the regions {', '.join(subject.resource.spec.regions)}: label its nodes with "
        "topology.kubernetes.io/region, or set the Helm value settings.regions"
    )
    return (Condition(ConditionType.CONFIGURED, False, Reason.REGION_NOT_HELD, text),)


def _regions(subject: Subject, plans: Sequence[Plan], configured: Configured) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for region in subject.resource.spec.regions:
        notes = [plan.notes[region] for plan in plans if region in plan.notes]
        found[region] = {"ready": region in configured.regions} | ({"stores": "; ".join(notes)} if notes else {})
    return found


async def _report(
    world: World, manifest: Object, conditions: Sequence[Condition], regions: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the status where it differs, and an event for each condition that changed."""
    known = status.merged(conditions)
    deleting = any(condition.type is ConditionType.DELETING for condition in known)
    rows = known if deleting else (status.summary(known), *known)
    wanted = status.status(manifest, rows, regions, world.now())
    live = manifest.get("status") or {}
    if all(live.get(key) == value for key, value in wanted.items()):
        return
    changed = status.changes(manifest, wanted)
    await world.kube.apply(status.manifest(manifest, wanted), status=True, manager=status.STATUS_MANAGER)
    for kind, row in changed:
        note = f"{row['type']} is {row['status']}: {row['message']}".rstrip(": ")
        await events.post(
            world.kube, events.event(manifest, kind, row["reason"], note, action="Reconcile", now=world.now())
        )


def _lines(error: ResourceError) -> str:
    return " ".join(error.problems)
