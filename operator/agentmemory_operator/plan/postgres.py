"""The tables in a Postgres that somebody else runs: brought to this release's version, and nothing more. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.values import Action, Condition, Plan

SOON_S = 2.0
AWAY_S = 30.0

Tier = Literal["state", "archive"]

CONDITIONS: Mapping[Tier, ConditionType] = {"state": ConditionType.STATE_READY, "archive": ConditionType.ARCHIVE_READY}


@dataclass(frozen=True, slots=True)
class Use:
    """One region, and the database its sidecars use."""

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


def keep(tier: Tier, uses: Sequence[Use], seen: Mapping[str, Seen], needed: int) -> Plan:
    """What brings every database to ``needed``. Tables that are newer are a newer release's, and serve this one too."""
    old = tuple(
        Migrate(name, database.version, needed)
        for name, database in seen.items()
        if not database.away and database.version < needed
    )
    notes = {use.region: f"postgres {'unreachable' if seen[use.database].away else 'ready'}" for use in uses}
    failing = any(database.away or database.unusable for database in seen.values())
    again_s = SOON_S if old else AWAY_S if failing else None
    return Plan(old, (_condition(tier, uses, seen, needed),), again_s, notes=notes)


def _condition(tier: Tier, uses: Sequence[Use], seen: Mapping[str, Seen], needed: int) -> Condition:
    kind = CONDITIONS[tier]
    for use in uses:
        database = seen[use.database]
        if database.away or database.unusable:
            reason = Reason.UNREACHABLE if database.away and not database.refused else Reason.ACCESS_DENIED
            return Condition(kind, False, reason, f"{use.region}: {database.away or database.unusable}.")
    if any(seen[use.database].version < needed for use in uses):
        return Condition(kind, False, Reason.CREATING, f"The tables are being brought to version {needed}.")
    if tier == "state" and len(uses) > 1:
        text = (
            "All regions share the state of one Postgres: a region that cannot reach it has no memory. Use dynamodb for "
            "a state in every region."
        )
        return Condition(kind, True, Reason.SINGLE_REGION_STATE, text)
    return Condition(kind, True, Reason.READY)
