"""The status of a resource, from what the tiers say. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.names import GROUP, VERSION
from agentmemory_operator.plan.values import Condition

STATUS_MANAGER = "agentmemory-operator-status"
_MESSAGE = 2048
GOOD_WHEN_FALSE = frozenset({ConditionType.DRIFT_DETECTED, ConditionType.RESTART_NEEDED, ConditionType.DELETING})
NEEDED = (
    ConditionType.CONFIGURED,
    ConditionType.REDIS_READY,
    ConditionType.STATE_READY,
    ConditionType.ARCHIVE_READY,
)
"""What must hold for a resource to be ready."""
_GRADES = {False: 0, None: 1, True: 2}


def merged(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """One condition of each type: where several tiers speak of the same, the worst, with every message."""
    by_type: dict[ConditionType, list[Condition]] = {}
    for condition in conditions:
        by_type.setdefault(condition.type, []).append(condition)
    found = []
    for kind in ConditionType:
        if not (same := by_type.get(kind)):
            continue
        worst = min(same, key=lambda condition: _GRADES[condition.status])
        texts = dict.fromkeys(c.message for c in same if c.message and c.status == worst.status)
        found.append(Condition(kind, worst.status, worst.reason, " ".join(texts)))
    return tuple(found)


def summary(conditions: Sequence[Condition]) -> Condition:
    """The condition Ready: true when everything needed is; else what stands in the way first."""
    by_type = {condition.type: condition for condition in conditions}
    missing = [kind for kind in NEEDED if kind not in by_type]
    bad = [by_type[kind] for kind in NEEDED if kind in by_type and by_type[kind].status is not True]
    if bad:
        first = min(bad, key=lambda condition: _GRADES[condition.status])
        status = False if first.status is False else None
        return Condition(ConditionType.READY, status, first.reason, f"{first.type}: {first.message}".rstrip(": "))
    if missing:
        return Condition(ConditionType.READY, None, Reason.PROGRESSING, f"not looked at yet: {', '.join(missing)}")
    return Condition(ConditionType.READY, True, Reason.READY, "")


def status(
    resource: Mapping[str, Any],
    conditions: Sequence[Condition],
    regions: Mapping[str, Mapping[str, Any]],
    now: datetime,
) -> dict[str, Any]:
    """The status subresource, whole. Times move only where a condition's status does.

    ``regions`` are the resource's regions in its order, each with ``ready`` and what the tiers say of it.
    """
    generation = resource["metadata"].get("generation", 0)
    before = {item["type"]: item for item in (resource.get("status") or {}).get("conditions", ())}
    return {
        "observedGeneration": generation,
        "conditions": [_row(condition, before.get(condition.type), generation, now) for condition in conditions],
        "regions": [{"region": region, **facts} for region, facts in regions.items()],
        "regionsReady": f"{sum(bool(facts.get('ready')) for facts in regions.values())}/{len(regions)}",
    }


def _row(condition: Condition, before: Mapping[str, Any] | None, generation: int, now: datetime) -> dict[str, Any]:
    text = {True: "True", False: "False", None: "Unknown"}[condition.status]
    unchanged = before is not None and before.get("status") == text
    return {
        "type": condition.type.value,
        "status": text,
        "reason": condition.reason.value,
        "message": condition.message[:_MESSAGE],
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if unchanged and before else timestamp(now),
    }


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def manifest(resource: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What server-side apply of the status takes."""
    meta = resource["metadata"]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "AgentMemory",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "status": wanted,
    }


def changes(resource: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What is worth an event: (``Normal`` or ``Warning``, condition) for each condition whose status or reason changed."""
    before = {item["type"]: item for item in (resource.get("status") or {}).get("conditions", ())}
    found = []
    for row in wanted["conditions"]:
        old = before.get(row["type"], {})
        if not old and row["type"] in GOOD_WHEN_FALSE and row["status"] == "False":
            continue  # nothing has happened yet
        if (old.get("status"), old.get("reason")) != (row["status"], row["reason"]):
            found.append(("Warning" if is_bad(row) else "Normal", row))
    return found


def is_bad(row: Mapping[str, Any]) -> bool:
    """Whether somebody should look: a needed thing that is not so, an unwanted one that is."""
    if row["type"] == ConditionType.NOT_FOR_PRODUCTION:
        return bool(row["status"] == "True")
    return bool(row["status"] == ("True" if row["type"] in GOOD_WHEN_FALSE else "False"))
