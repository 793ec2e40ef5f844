"""What happens in a history, drawn from a seed before anything runs. Each event stands for itself, so that any of them may
be left out to find the few that matter."""

import random
from dataclasses import dataclass, replace
from typing import Any

from agentmemory_sidecar.resource.scopes import Scope
from agentmemory_sidecar.resource.session import LockScope, OnConflict
from agentmemory_sidecar.resource.state import MergeStrategy, StateUnavailable
from tests.histories.claude import TOOLS
from tests.histories.links import Kind
from tests.histories.world import PLACES, Scopes, Setting

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
CALLS = ("", "state.", "state.write", "state.write", "state.write", "state.read", "state.versions", "state.entry", "hot.",
         "hot.begin", "hot.commit", "hot.commit", "hot.release", "hot.freeze", "records.", "state.lock")  # fmt: skip
TURNS = (5, 10)
LONGEST_S = (8.0, 20.0, 40.0)
"""Within one of these times everything begins."""


@dataclass(frozen=True)
class Event:
    """``what`` names a method of :class:`~tests.histories.history.History`."""

    at: float
    what: str
    how: dict[str, Any]

    def __str__(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self.how.items())
        return f"{self.at:8.3f}  {self.what}({said})"


SEVERAL: tuple[Scopes, ...] = (
    (
        (Scope.SESSION, ()),
        (Scope.USER, (PLACES["put_a"],)),
        (Scope.PROJECT, (PLACES["note"], PLACES["todo"])),
    ),
    ((Scope.SESSION, ()), (Scope.PROJECT, (PLACES["put_c"],)), (Scope.USER, (PLACES["note"],))),
    ((Scope.USER, ()), (Scope.PROJECT, (PLACES["put_b"], PLACES["note"]))),
)
"""Scopes that are there at once, in some histories."""


@dataclass(frozen=True)
class Who:
    """A client."""

    session: str
    user: str
    project: str
    agent: str = ""


@dataclass(frozen=True)
class Plan:
    """One history."""

    seed: int
    setting: Setting
    nodes: int
    """Sidecars a region."""
    clients: tuple[Who, ...]
    events: tuple[Event, ...]

    def only(self, events: tuple[Event, ...]) -> "Plan":
        return replace(self, events=events)


def draw(seed: int) -> Plan:
    """The history of a seed."""
    rng = random.Random(f"{seed}/plan")
    regions = REGIONS[: rng.choice([2, 2, 3])]
    setting = Setting(
        regions,
        _scopes(rng, seed),
        tuple((PLACES[tool], rng.choice(list(MergeStrategy))) for tool in ("put_b", "todo") if rng.random() < 0.5),
        rng.choice([0.1, 1.0, 8.0]),
        rng.choice([0.0, 0.0, 0.01, 0.04]),
        failover=rng.random() < 0.5,
        lock_scope=rng.choice([LockScope.STEP, LockScope.STEP, LockScope.TURN]),
        on_conflict=rng.choice([OnConflict.REJECT, OnConflict.REJECT, OnConflict.WAIT]),
        on_state_unavailable=rng.choice([StateUnavailable.REFUSE] * 4 + [StateUnavailable.PASS_THROUGH]),
    )
    long_s = rng.choice(LONGEST_S)
    clients = _clients(rng, shared=any(scope is Scope.PROJECT for scope, _ in setting.scopes))
    events = [_turn(rng, long_s, regions, clients) for _ in range(rng.randint(*TURNS))]
    trouble = rng.choice([0, 2, 4, 8])
    for _ in range(trouble):
        events += _trouble(rng, long_s, regions)
    return Plan(seed, setting, rng.choice([1, 1, 2]), clients, tuple(sorted(events, key=lambda event: event.at)))


def _scopes(rng: random.Random, seed: int) -> Scopes:
    """One scope, or in every third history several at once."""
    one = rng.choice([Scope.SESSION, Scope.SESSION, Scope.PROJECT])
    several = random.Random(f"{seed}/scopes")
    return several.choice(SEVERAL) if several.random() < 1 / 3 else ((one, ()),)


def _clients(rng: random.Random, *, shared: bool) -> tuple[Who, ...]:
    users = rng.choice([1, 2, 2, 3]) if shared else rng.choice([1, 1, 2])
    clients = [Who(f"s{n}", f"u{n}", "p") for n in range(users)]
    if rng.random() < 0.5:
        clients.append(clients[0])  # another device, with a history of its own
    if rng.random() < 0.25:
        clients.append(Who("s0", "u0", "p", "explorer"))
    return tuple(clients)


def _at(rng: random.Random, long_s: float) -> float:
    return round(rng.random() * long_s, 3)


def _place(rng: random.Random, regions: tuple[str, ...]) -> tuple[str, int]:
    return rng.choice(regions), rng.randrange(2)


def _turn(rng: random.Random, long_s: float, regions: tuple[str, ...], clients: tuple[Who, ...]) -> Event:
    client = rng.randrange(len(clients))
    home = regions[client % len(regions)]
    first = (home, rng.randrange(2)) if rng.random() < 0.5 else _place(rng, regions)
    tools = [rng.sample(TOOLS, rng.choice([1, 1, 2])) for _ in range(rng.choice([0, 1, 1, 2]))]
    how: dict[str, Any] = {
        "client": client,
        "tools": tools,
        "route": [first, first if rng.random() < 0.5 else _place(rng, regions), _place(rng, regions)],
        "wait_s": round(rng.choice([0.0, 0.5, 3.0, 10.0]) * rng.random(), 3),
    }
    if rng.random() < 0.3:
        how["stream"] = True
    if rng.random() < 0.15:
        how["claude"] = rng.choice(["slow", "slow", "cut", "cut", "unreachable", "overloaded"])
    if rng.random() < 0.08:
        how["leave_after_s"] = round(rng.random() * 1.5, 3)
    if rng.random() < 0.12:
        how["double"] = _place(rng, regions)
    if rng.random() < 0.3:
        how["keep_half"] = True
    if rng.random() < 0.1:
        how["fresh"] = True
    return Event(_at(rng, long_s), "turn", how)


def _trouble(rng: random.Random, long_s: float, regions: tuple[str, ...]) -> list[Event]:
    at, for_s = _at(rng, long_s), round(rng.choice([2.0, 10.0, 30.0]) * rng.random(), 3)
    region, which = _place(rng, regions)
    match rng.choices(
        ["fault", "kill", "part", "isolate", "redis", "down", "endpoint", "skew", "wait"], [8, 2, 4, 2, 3, 3, 1, 1, 1]
    )[0]:
        case "fault":
            kind, name, skip = rng.choice(list(Kind)), rng.choice(CALLS), rng.choice([0, 0, 1, 2, 5, 12])
            how = {"region": region, "which": which, "kind": kind.value, "name": name, "skip": skip}
            return [Event(at, "fault", how)]
        case "kill":
            return [Event(at, "kill", {"region": region, "which": which})]
        case "part":
            pair = sorted(rng.sample(regions, 2))
            return [Event(at, "part", {"pair": pair}), Event(at + for_s, "heal", {"pair": pair})]
        case "isolate":
            return [Event(at, "isolate", {"region": region}), Event(at + for_s, "rejoin", {"region": region})]
        case "redis":
            way = rng.choice(["lose", "restart", "rewind", "rewind"])
            events = [Event(at + for_s, "redis", {"region": region, "way": way})]
            return [Event(at, "redis", {"region": region, "way": "dump"}), *events] if way == "rewind" else events
        case "down":
            store = rng.choice(["hot", "hot", "state", "state", "records", "blobs"])
            return [
                Event(at, "down", {"region": region, "store": store}),
                Event(at + for_s, "up", {"region": region, "store": store}),
            ]
        case "endpoint":
            return [Event(at, "endpoint", {"region": region, "which": which, "endpoint": rng.choice(regions)})]
        case "skew":
            seconds = rng.choice([-30.0, -2.0, 2.0, 30.0])
            return [Event(at, "skew", {"region": region, "which": which, "seconds": seconds})]
        case _:
            return [Event(at, "table_skew", {"region": region, "seconds": rng.choice([-1.0, 1.0])})]
