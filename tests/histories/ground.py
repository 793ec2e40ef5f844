"""What lies under the sidecars of a history: the stores of every region, and what may happen to them.

Here it is the model, in virtual time; :mod:`tests.histories.real` has real servers.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from agentmemory_sidecar.stores.opened import Stores
from agentmemory_sidecar.stores.protocols import Conversation, KeyShelf, Stored
from tests.histories.hot import Kept, ModelHotStore, ModelRedis
from tests.histories.links import Link
from tests.histories.loop import EPOCH
from tests.histories.objects import Buckets, ModelObjects
from tests.histories.state import ModelKeyShelf, ModelStateStore
from tests.histories.table import HeadRow, Table, Timers
from tests.histories.watch import Watcher

Clock = Callable[[], float]


class Ground(Protocol):
    """The stores of one history."""

    table: Table
    """The items of the state tier as each region has them: the model itself, or a copy that is told of every write."""
    watcher: Watcher

    def now(self) -> float:
        """Seconds since the epoch, by a clock that is right."""
        ...

    def stores(self, region: str, endpoint: str, link: Link, clock: Clock, *, failover: bool) -> Stores:
        """What a sidecar of a region works with that writes through this endpoint; everything passes its link."""
        ...

    # ------------------------------------------------------------------------------------------------- what may happen

    def part(self, one: str, other: str) -> None:
        """Two regions' stores hear nothing of each other any more."""
        ...

    def heal(self, region: str = "", other: str = "") -> None:
        """All hear of each other again; with names, those two, or all of one region's."""
        ...

    def isolate(self, region: str) -> None:
        """No store hears of the region any more, and no sidecar reaches a store across its border."""
        ...

    async def rejoin(self, region: str) -> None: ...

    async def down(self, region: str, store: str) -> None:
        """The sidecars of a region do not reach a store: ``hot``, ``state``, ``records`` or ``blobs``."""
        ...

    async def up(self, region: str, store: str) -> None: ...

    async def redis(self, region: str, way: str) -> None:
        """``lose``: it comes back with nothing. ``restart``: perhaps with a little less. ``dump`` notes what it holds, and
        ``rewind`` puts that there again, under the same name."""
        ...

    def skew(self, region: str, seconds: float) -> None:
        """How far the clock is off by which a region's writes are stamped."""
        ...

    async def calm(self) -> None:
        """All trouble is over."""
        ...

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way between regions any more."""
        ...

    # ------------------------------------------------------------------------------------------------ what is there

    async def read(self, region: str, conversation: Conversation) -> Stored: ...

    def shelf(self, region: str) -> KeyShelf: ...

    async def records(self) -> dict[str, bytes]:
        """The archive's objects of all regions."""
        ...

    async def differences(self) -> list[str]:
        """How the regions' replicas differ."""
        ...

    async def locks(self) -> list[str]:
        """Locks that are held, and what was done to one by somebody else."""
        ...


class ModelGround:
    """:class:`Ground` in virtual time."""

    def __init__(self, regions: tuple[str, ...], seed: int, timers: Timers, lag_s: float, hot_ttl_s: float) -> None:
        def rng(what: str) -> random.Random:
            return random.Random(f"{seed}/{what}")

        self.regions, self._timers = regions, timers
        self.table = Table(regions, timers, rng("replication"), lag_s)
        self.watcher = self.table.watch = Watcher(self.table)
        self._records = Buckets(regions, timers, rng("records"), lag_s * 3)
        self._blobs = Buckets(regions, timers, rng("blobs"), lag_s * 3)
        self._redis = {region: ModelRedis(timers.time, hot_ttl_s=hot_ttl_s) for region in regions}
        self._dumps: dict[str, Any] = {}
        self._links: list[tuple[str, Link]] = []

    def now(self) -> float:
        return EPOCH + self._timers.time()

    def stores(self, region: str, endpoint: str, link: Link, clock: Clock, *, failover: bool) -> Stores:
        self._links.append((region, link))
        others = [other for other in self.regions if failover and other != endpoint]
        return Stores(
            ModelHotStore(self._redis[region], link),
            ModelStateStore(self.table, endpoint, clock, link=link),
            ModelObjects(self._records, region, "records", link),
            ModelObjects(self._blobs, region, "blobs", link),
            shelf=ModelKeyShelf(self.table, endpoint, link),
            elsewhere=tuple(
                (
                    ModelStateStore(self.table, other, clock, link=link, name=f"elsewhere-{other}"),
                    ModelKeyShelf(self.table, other, link, name=f"elsewhere-{other}"),
                )
                for other in others
            ),
        )

    def part(self, one: str, other: str) -> None:
        self.table.part(one, other)

    def heal(self, region: str = "", other: str = "") -> None:
        named = {name for name in (region, other) if name}
        self.table.heal({pair for pair in self.table.cut if named <= pair})

    def isolate(self, region: str) -> None:
        for other in self.regions:
            if other != region:
                self.table.part(region, other)
        for home, link in self._links:
            others = self.regions if home == region else (region,)
            link.down |= {f"elsewhere-{other}" for other in others}

    async def rejoin(self, region: str) -> None:
        for _, link in self._links:
            link.down -= {name for name in link.down if name.startswith("elsewhere-")}
        self.heal(region)

    async def down(self, region: str, store: str) -> None:
        for link in self._of(region):
            link.down.add(store)

    async def up(self, region: str, store: str) -> None:
        for link in self._of(region):
            link.down.discard(store)

    def _of(self, region: str) -> Iterable[Link]:
        return (link for home, link in self._links if home == region)

    async def redis(self, region: str, way: str) -> None:
        redis = self._redis[region]
        match way:
            case "lose":
                redis.lose_all()
            case "restart":
                redis.restart()
            case "dump":
                self._dumps[region] = redis.dump()
            case "rewind":
                dump: dict[Any, Kept] = self._dumps.pop(region, {})
                redis.load(dump)

    def skew(self, region: str, seconds: float) -> None:
        self.table.replicas[region].skew = seconds

    async def calm(self) -> None:
        self.table.heal()
        for _, link in self._links:
            link.down.clear()

    @property
    def settled(self) -> bool:
        return self.table.settled and not self._records.under_way and not self._blobs.under_way

    async def read(self, region: str, conversation: Conversation) -> Stored:
        return await ModelStateStore(self.table, region, self.now).read(conversation)

    def shelf(self, region: str) -> KeyShelf:
        return ModelKeyShelf(self.table, region)

    async def records(self) -> dict[str, bytes]:
        return {key: data for region in self.regions for key, data in self._records.objects[region].items()}

    async def differences(self) -> list[str]:
        first, *others = (self.table.replicas[region] for region in self.regions)
        values = {key: row.value for key, row in first.rows.items()}
        return [
            f"the replica of {replica.region} differs from that of {first.region}"
            for replica in others
            if values != {key: row.value for key, row in replica.rows.items()}
        ]

    async def locks(self) -> list[str]:
        found = []
        for region, redis in self._redis.items():
            found += redis.broken
            found += [f"a lock is left in {region} on {place.session}: {token}" for place, token in redis.locks()]
        for region in self.regions:
            for start in self.table.replicas[region].groups:
                row = self.table.replicas[region].get((*start, region)) if start[0] == "head" else None
                if isinstance(row, HeadRow) and row.token and row.until > self.now():
                    found.append(f"an item lock is left in {region} on {start[2]}")
        return found
