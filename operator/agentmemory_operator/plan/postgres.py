"""The tables in a Postgres that somebody else runs: brought to this release's version, and nothing more. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.values import Action, Condition, Plan

SOON_S = 2.0
AWAY_S = 30.0

CONDITIONS = {"state": ConditionType.STATE_READY, "archive": ConditionType.ARCHIVE_READY}


@dataclass(frozen=True, slots=True)
class Use:
    """One tier in one region, and its database."""

    tier: str
    """``state`` or ``archive``."""
    region: str
    database: str
    """What tells databases apart: the same for the same login. No secret."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A database as it is."""

    away: str = ""
    """Why it cannot be used, with what to do; empty if it can."""
    refused: bool = False
    """Whether waiting changes nothing."""
    version: int = 0
    """Of our tables; 0 for none."""
    unusable: str = ""
    """Why the sidecars' role cannot use the tables, where it is not the operator's; empty if it can."""


@dataclass(frozen=True, slots=True)
class Migrate(Action):
    """Bring the tables to this release's version: all or nothing, by one operator or sidecar at a time."""

    database: str
    found: int
    needed: int

    def describe(self) -> str:
        what = f"from version {self.found} to {self.needed}" if self.found else f"at version {self.needed}"
        return f"make the tables of {self.database}, {what}"


def keep(uses: Sequence[Use], seen: Mapping[str, Seen], needed: int) -> Plan:
    """What brings every database to ``needed``. Tables that are newer are a newer release's, and serve this one too."""
    old = {
        name: Migrate(name, database.version, needed)
        for name, database in seen.items()
        if not database.away and database.version < needed
    }
    conditions = tuple(_condition(tier, uses, seen, needed) for tier in CONDITIONS if any(u.tier == tier for u in uses))
    notes = {use.region: f"postgres {'unreachable' if seen[use.database].away else 'ready'}" for use in uses}
    waits = (
        [SOON_S] if old else [AWAY_S] if any(database.away or database.unusable for database in seen.values()) else []
    )
    return Plan(tuple(old.values()), conditions, min(waits, default=None), notes=notes)


def _condition(tier: str, uses: Sequence[Use], seen: Mapping[str, Seen], needed: int) -> Condition:
    kind, mine = CONDITIONS[tier], [use for use in uses if use.tier == tier]
    for use in mine:
        database = seen[use.database]
        if database.away or database.unusable:
            reason = Reason.UNREACHABLE if database.away and not database.refused else Reason.ACCESS_DENIED
            return Condition(kind, False, reason, f"{use.region}: {database.away or database.unusable}.")
    if any(seen[use.database].version < needed for use in mine):
        return Condition(kind, False, Reason.CREATING, f"The tables are being brought to version {needed}.")
    if tier == "state" and len(mine) > 1:
        text = (
            "All regions share the state of one Postgres: a region that cannot reach it has no memory. Use dynamodb for "
            "a state in every region."
        )
        return Condition(kind, True, Reason.SINGLE_REGION_STATE, text)
    return Condition(kind, True, Reason.READY)
