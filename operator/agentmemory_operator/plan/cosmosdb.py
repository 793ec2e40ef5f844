"""The CosmosDB database and container. Pure. The account, its regions and its backups are the user's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.values import Action, Condition, Plan
from agentmemory_sidecar.layout.cosmosdb import EXPIRY_PER_ITEM, PARTITION_KEY

SOON_S = 2.0
AWAY_S = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the resource declares."""

    database: str
    container: str
    accounts: Mapping[str, str]
    """The account's URL in each region."""
    max_throughput: int = 0
    """Autoscaled up to so many request units a second; 0 for a serverless account."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One account."""

    away: str = ""
    """Why it could not be looked at, with what to do; empty if it could."""
    refused: bool = False
    """Whether waiting changes nothing."""
    database: bool = False
    container: bool = False
    partition_key: Sequence[str] = ()
    default_ttl: int | None = None


@dataclass(frozen=True, slots=True)
class CosmosAction(Action):
    account: str
    database: str


@dataclass(frozen=True, slots=True)
class CreateDatabase(CosmosAction):
    def describe(self) -> str:
        return f"create database {self.database} in {self.account}"


@dataclass(frozen=True, slots=True)
class CreateContainer(CosmosAction):
    container: str
    max_throughput: int

    def describe(self) -> str:
        return f"create container {self.database}/{self.container} in {self.account}"


@dataclass(frozen=True, slots=True)
class SetExpiry(CosmosAction):
    container: str

    def describe(self) -> str:
        return f"let items of container {self.database}/{self.container} in {self.account} expire"


def keep(wanted: Wanted, seen: Mapping[str, Seen], *, settled: bool) -> Plan:
    """What is to be made; ``seen`` by account. ``settled`` as for tables."""
    actions: list[Action] = []
    problems: list[tuple[Reason, str]] = []
    for account in dict.fromkeys(wanted.accounts.values()):
        action, problem = _one(wanted, account, seen[account])
        actions += [action] if action else []
        problems += [problem] if problem else []
    notes = {
        region: f"container {'unreachable' if seen[account].away else 'ready' if seen[account].container else 'missing'}"
        for region, account in wanted.accounts.items()
    }
    drift = [action.describe() for action in actions] if settled else []
    again_s = SOON_S if actions else AWAY_S if problems else None
    return Plan(tuple(actions), (_condition(wanted, actions, problems),), again_s, drift=tuple(drift), notes=notes)


def _one(wanted: Wanted, account: str, live: Seen) -> tuple[Action | None, tuple[Reason, str] | None]:
    if live.away:
        return None, (Reason.ACCESS_DENIED if live.refused else Reason.UNREACHABLE, live.away)
    if not live.database:
        return CreateDatabase(account, wanted.database), None
    if not live.container:
        return CreateContainer(account, wanted.database, wanted.container, wanted.max_throughput), None
    if list(live.partition_key) != [PARTITION_KEY]:
        name = f"Container {wanted.database}/{wanted.container}"
        have = ", ".join(live.partition_key) or "none"
        text = f"{name} is not one of ours: its partition key is {have}, not {PARTITION_KEY}; choose another container"
        return None, (Reason.FOREIGN_OBJECT, text)
    # An expiry of the container's own would delete items that must stay, so it is set back too.
    if live.default_ttl != EXPIRY_PER_ITEM:
        return SetExpiry(account, wanted.database, wanted.container), None
    return None, None


def _condition(wanted: Wanted, actions: Sequence[Action], problems: Sequence[tuple[Reason, str]]) -> Condition:
    if problems:
        return Condition(ConditionType.STATE_READY, False, problems[0][0], " ".join(f"{t}." for _, t in problems))
    name = f"Container {wanted.database}/{wanted.container}"
    if actions:
        return Condition(ConditionType.STATE_READY, False, Reason.CREATING, f"{name} is being made.")
    return Condition(ConditionType.STATE_READY, True, Reason.READY)
