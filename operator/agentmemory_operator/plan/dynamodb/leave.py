"""The table of a resource that is being deleted: give it up, or delete what we made."""

from collections.abc import Collection, Mapping

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.aws import CLUSTER, Standing, listed, made_in
from agentmemory_operator.plan.dynamodb.keep import AWAY_S, MOVING_S, SOON_S
from agentmemory_operator.plan.dynamodb.values import (
    MOVING,
    DeleteReplica,
    DeleteTable,
    DissolveStrong,
    Seen,
    SetProtection,
    UntagTable,
    Wanted,
)
from agentmemory_operator.plan.values import Action, Condition, Plan


def leave(wanted: Wanted, seen: Mapping[str, Seen], *, delete: bool, abandoned: Collection[str] = ()) -> Plan:
    """What is left to do before the resource may go.

    ``abandoned`` are AWS regions that are not waited for: somebody has named them in the annotation.
    """
    ours = {region: table for region, table in seen.items() if table.standing(wanted.owner) is Standing.OURS}
    ours = {region: table for region, table in ours.items() if table.there}
    away = sorted(region for region, table in seen.items() if table.away and region not in abandoned)
    waiting = [
        f"{region}: {seen[region].away}; the region can be left behind by naming it in the annotation "
        "agentmemory.io/remove-region"
        for region in away
    ]
    made = {region for table in ours.values() for region in made_in(table.tags)} if delete else set()
    kept = {region: table for region, table in ours.items() if region not in made}
    actions: list[Action] = []
    again_s = AWAY_S if away else None
    if made & ours.keys():
        step, text = _remove(wanted, ours, made)
        actions += step
        again_s = MOVING_S if not step else SOON_S
        waiting.append(text)
    # Tags go last: they say what may be deleted.
    if not made & ours.keys():
        actions += [UntagTable(wanted.table, region, table.arn, (CLUSTER,)) for region, table in sorted(kept.items())]
    if not (actions or waiting):
        return Plan()
    message = " ".join(waiting) or f"Table {wanted.table} is given up; its data stay."
    return Plan(
        tuple(actions), (Condition(ConditionType.STATE_READY, False, Reason.WAITING, message),), again_s or SOON_S
    )


def _remove(wanted: Wanted, ours: Mapping[str, Seen], made: set[str]) -> tuple[list[Action], str]:
    """The next step towards the end of what we made, and what to say meanwhile."""
    there = sorted(made & ours.keys())
    # A table that was there before us stays, and so it is the one to ask; else the first of ours.
    home = min(ours.keys() - made, default=there[0])
    table = ours[home]
    text = f"Table {wanted.table} is being deleted in {', '.join(there)}."
    if {table.status, *table.replicas.values()} & MOVING:
        return [], text
    doomed = [region for region in there if region != home]
    unprotect: list[Action] = [
        SetProtection(wanted.table, region, False) for region in (*doomed, *({home} & made)) if ours[region].protection
    ]
    if unprotect:
        return unprotect, text
    strangers = table.replicas.keys() - made
    if table.strong:
        if strangers:
            return (
                [],
                f"Table {wanted.table} has replicas in {listed(strangers)} that this resource did not make: {_WAY}",
            )
        return [DissolveStrong(wanted.table, home, tuple(sorted(table.replicas)), table.witness)], text
    # One that is no replica of the home's is a table of its own: a replica that somebody parted from it.
    apart = [region for region in doomed if region not in table.replicas]
    for region in (home, *apart):
        if gone := sorted(ours[region].replicas.keys() & set(doomed)):
            return [DeleteReplica(wanted.table, region, gone[0], "the resource is deleted")], text
    for region in apart:
        if not ours[region].replicas:
            return [DeleteTable(wanted.table, region)], text
    if table.replicas or home not in made:
        return [], f"Table {wanted.table} has replicas in {listed(table.replicas)} that cannot be deleted now: {_WAY}"
    return [DeleteTable(wanted.table, home)], text


_WAY = "delete them, or set deletionPolicy: Retain"
