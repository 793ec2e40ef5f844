"""A model of an eventual global table (MREC): one replica a region.

Each region takes writes and sees its own at once; conditions look at the local replica alone. What was written goes to the
other replicas item by item, after a while, in any order, perhaps twice. There the newer write of an item wins, by its time
and then by its region's name, and the other one is gone without a word.
"""

import bisect
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from agentmemory_sidecar.stores.protocols import (
    Conversation,
    Versions,
)

T = TypeVar("T")

Key = tuple[str, ...]
"""Kind, tenant, and what names the item among those of its kind."""
FOREVER = float("inf")


class Timers(Protocol):
    """What is asked of an event loop."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One item, as a replica has it. ``value`` None: deleted."""

    value: Any
    stamp: tuple[float, str]


@dataclass(frozen=True, slots=True)
class HeadRow:
    """A state item. ``body`` None: only locked."""

    turn: int = 0
    version: int = 0
    body: bytes | None = None
    pending: bool = False
    expires: float = FOREVER
    token: str = ""
    until: float = 0.0

    @property
    def versions(self) -> Versions:
        return Versions(self.turn, self.version)


class Replica:
    """A region's copy of the table. ``groups`` holds the keys that a query finds, by all but the last part."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.rows: dict[Key, Row] = {}
        self.groups: dict[Key, list[Key]] = {}
        self.skew = 0.0
        """How far the store's own clock is off, by which the last writer wins."""

    def get(self, key: Key) -> Any:
        row = self.rows.get(key)
        return row.value if row is not None else None

    def group(self, *start: str) -> list[tuple[str, Any]]:
        """(last part of the key, value) of all items whose keys differ in that alone, in order."""
        found = ((key, self.rows[key].value) for key in self.groups.get(start, ()))
        return [(key[-1], value) for key, value in found if value is not None]

    def put(self, key: Key, row: Row) -> bool:
        """Take a write if it is the newer one."""
        known = self.rows.get(key)
        if known is not None and known.stamp >= row.stamp:
            return False
        if known is None:
            bisect.insort(self.groups.setdefault(key[:-1], []), key)
        self.rows[key] = row
        return True


@dataclass
class Table:
    """All replicas, and what is on its way between them."""

    regions: tuple[str, ...]
    timers: Timers
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    lag_s: float = 0.0
    """The longest time that an item is under way, but for some that take ten times as long."""
    replicas: dict[str, Replica] = field(init=False)
    cut: set[frozenset[str]] = field(default_factory=set)
    """Pairs of regions that hear nothing of each other."""
    waiting: list[tuple[str, str, Key, Row]] = field(default_factory=list)
    """What waits for a cut to heal: from, to, item."""
    under_way: int = 0
    watch: "Watch | None" = None

    def __post_init__(self) -> None:
        self.replicas = {region: Replica(region) for region in self.regions}

    def write(self, region: str, key: Key, value: Any) -> None:
        """A write that a region has taken."""
        here = self.replicas[region]
        now = self.timers.time() + here.skew
        known = here.rows.get(key)
        if known is not None and known.stamp[0] >= now:
            now = known.stamp[0] + 1e-6
        row = Row(value, (now, region))
        here.put(key, row)
        for other in self.regions:
            if other != region:
                self._send(region, other, key, row)

    def _send(self, source: str, target: str, key: Key, row: Row) -> None:
        if frozenset((source, target)) in self.cut:
            self.waiting.append((source, target, key, row))
            return
        self._deliver_later(source, target, key, row)
        if self.rng.random() < 0.05:
            self._deliver_later(source, target, key, row)

    def _deliver_later(self, source: str, target: str, key: Key, row: Row) -> None:
        self.under_way += 1
        lag = self.rng.random() * self.lag_s * (10 if self.rng.random() < 0.05 else 1)
        self.timers.call_later(lag, self._arrive, source, target, key, row)

    def _arrive(self, source: str, target: str, key: Key, row: Row) -> None:
        self.under_way -= 1
        if frozenset((source, target)) in self.cut:
            self.waiting.append((source, target, key, row))
        else:
            self.replicas[target].put(key, row)

    def part(self, one: str, other: str) -> None:
        """Two regions hear nothing of each other any more."""
        self.cut.add(frozenset((one, other)))

    def heal(self, pairs: set[frozenset[str]] | None = None) -> None:
        """All, or these, hear of each other again, and of what they missed."""
        self.cut -= set(self.cut) if pairs is None else pairs
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            self._send(*each)

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way any more."""
        return not self.under_way and not self.waiting


class Watch(Protocol):
    """Is told what the state tier does."""

    def looks(self, region: str, conversation: Conversation) -> None:
        """A sidecar looks at the conversation's items in a replica, or at their versions."""

    def saw(self, head: str, conversation: Conversation, told: Versions) -> None:
        """One that writes this head was told these."""

    def wrote(self, region: str, conversation: Conversation, expect: Versions, new: Versions, body: bytes) -> None:
        """A write of a state item took effect."""
