"""Heartbeats between the regions of eventual tables, beside the loops of the resources.

A resource's look says where they go (:meth:`Heartbeats.between`) and asks what they have shown (:meth:`Heartbeats.found`).
Where that would change what the status says, the resource is woken.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import Gauge

from agentmemory_operator.aws import Access, Aws, AwsAway, AwsRefused
from agentmemory_operator.plan.dynamodb.replication import (
    Findings,
    Pair,
    Track,
    concluded,
    lag_s,
    outstanding,
    tracked,
)
from agentmemory_sidecar.layout.dynamodb import EXPIRES, PARTITION_KEY, PING, SORT_KEY

log = logging.getLogger(__name__)

EVERY_S = 30.0
"""From one round of a resource to the next, at least."""
PAUSES_S = (1.0, 1.0, 2.0, 4.0, 8.0, 12.0)
"""Before each read of a round. It ends with the first that finds everything, and else just before the next round."""
KEPT_S = 86400
"""How long an item outlives its writer, by the table's TTL."""
REMEMBERED = 2880
"""Heartbeats of a region that are waited for: a day of them."""
TICK_S = 1.0

LAG = Gauge(
    "agentmemory_operator_replication_lag_seconds",
    "How long a write in one region takes to arrive in another, by the newest heartbeat.",
    ("namespace", "name", "from_region", "to_region"),
)
RPO = Gauge(
    "agentmemory_operator_rpo_seconds",
    "What a region that is lost now may take with it: the largest lag.",
    ("namespace", "name"),
)

Key = tuple[str, str]
"""Namespace and name of a resource."""


@dataclass(frozen=True, slots=True)
class Site:
    """A region of a resource, and how its endpoint is called."""

    region: str
    access: Access


@dataclass(slots=True)
class _Watched:
    """One resource's heartbeats. Losing this costs the time until the next ones have arrived."""

    table: str = ""
    sites: tuple[Site, ...] = ()
    until_s: float = 0.0
    due_s: float = 0.0
    running: bool = False
    number: int = 0
    sent: dict[str, dict[int, float]] = field(default_factory=dict)
    tracks: dict[Pair, Track] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)

    def pairs(self) -> list[Pair]:
        regions = [site.region for site in self.sites]
        return [(here, there) for here in regions for there in regions if here != there]


class Heartbeats:
    """Those of all resources."""

    def __init__(
        self,
        aws: Aws,
        wake: Callable[[str, str], None] = lambda namespace, name: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """:param wake: called with a resource's namespace and name when its condition has to be told anew."""
        self.aws = aws
        self._wake, self._clock, self._sleep = wake, clock, sleep
        self._run = secrets.token_hex(4)
        self._watched: dict[Key, _Watched] = {}

    # ---------------------------------------------------------------------------------------------- what a look calls

    def between(self, key: Key, table: str, sites: Sequence[Site], for_s: float) -> None:
        """Send heartbeats between these places, for so long unless this is called again."""
        watched = self._watched.setdefault(key, _Watched(due_s=self._clock()))
        if (watched.table, watched.sites) != (table, tuple(sites)):
            self._untell(key, watched)
            watched.table, watched.sites = table, tuple(sites)
            watched.tracks = {pair: watched.tracks.get(pair, Track()) for pair in watched.pairs()}
            watched.sent = {site.region: watched.sent.get(site.region, {}) for site in sites}
            watched.findings = Findings()
        watched.until_s = self._clock() + for_s

    def found(self, key: Key) -> Findings:
        """What they have shown. Empty for a resource that has none."""
        watched = self._watched.get(key)
        return watched.findings if watched else Findings()

    def forget(self, key: Key) -> None:
        """Send no more."""
        if watched := self._watched.pop(key, None):
            self._untell(key, watched)

    # --------------------------------------------------------------------------------------------------------- rounds

    async def watch(self) -> None:
        """For ever: a round of each resource as it is due."""
        async with asyncio.TaskGroup() as group:
            while True:
                for key in self._due():
                    group.create_task(self._safely(key))
                await self._sleep(TICK_S)

    def _due(self) -> Iterable[Key]:
        now = self._clock()
        for key, watched in tuple(self._watched.items()):
            if now > watched.until_s:
                self.forget(key)  # nobody has looked at the resource for long: it is gone
            elif now >= watched.due_s and not watched.running:
                watched.due_s = now + EVERY_S
                yield key

    async def _safely(self, key: Key) -> None:
        try:
            await self.round(key)
        except Exception:
            log.exception("%s/%s: heartbeats: a defect of ours; trying again", *key)

    async def round(self, key: Key) -> None:
        """One heartbeat in each region, and reads until all of them have arrived, or the next round comes."""
        watched = self._watched.get(key)
        if watched is None or watched.running:
            return
        watched.running = True
        try:
            await self._round(key, watched, watched.table, watched.sites)
        finally:
            watched.running = False

    async def _round(self, key: Key, watched: _Watched, table: str, sites: tuple[Site, ...]) -> None:
        watched.number += 1
        troubles: dict[str, AwsAway | AwsRefused] = {}

        async def safe(site: Site, doing: Awaitable[None]) -> None:
            try:
                await doing
            except (AwsAway, AwsRefused) as error:
                log.info("%s/%s: heartbeat in %s: %s", *key, site.region, error)
                troubles[site.region] = error

        await asyncio.gather(*(safe(site, self._beat(watched, table, site)) for site in sites))
        for pause_s in PAUSES_S:
            await self._sleep(pause_s)
            answering = [site for site in sites if site.region not in troubles]
            await asyncio.gather(*(safe(site, self._read(watched, table, site, sites)) for site in answering))
            if self._watched.get(key) is not watched or watched.sites != sites:
                return  # it is not this round's any more
            self._publish(key, watched, troubles)
            answered = {site.region for site in answering} - troubles.keys()
            pairs = [(here, there) for here, there in watched.pairs() if there in answered]
            if not any(outstanding(watched.tracks[pair], watched.sent[pair[0]]) for pair in pairs):
                return

    async def _beat(self, watched: _Watched, table: str, site: Site) -> None:
        number, at_s = watched.number, self._clock()
        epoch = time.time()
        item = {
            PARTITION_KEY: {"S": PING},
            SORT_KEY: {"S": site.access.region},
            "run": {"S": self._run},
            "number": {"N": str(number)},
            "at": {"N": f"{epoch:.3f}"},
            EXPIRES: {"N": str(int(epoch) + KEPT_S)},
        }
        await self.aws.call(site.access, "dynamodb", "put_item", TableName=table, Item=item)
        sent = watched.sent.setdefault(site.region, {})
        sent[number] = at_s
        if len(sent) > REMEMBERED:
            del sent[min(sent)]

    async def _read(self, watched: _Watched, table: str, site: Site, sites: Sequence[Site]) -> None:
        answer = await self.aws.call(
            site.access,
            "dynamodb",
            "query",
            TableName=table,
            KeyConditionExpression=f"{PARTITION_KEY} = :ping",
            ExpressionAttributeValues={":ping": {"S": PING}},
            ConsistentRead=True,
        )
        now = self._clock()
        ours = {
            item[SORT_KEY]["S"]: int(item["number"]["N"])
            for item in answer["Items"]
            if item.get("run", {}).get("S") == self._run
        }
        for other in sites:
            pair = (other.region, site.region)
            if other is not site and pair in watched.tracks:
                number = ours.get(other.access.region, 0)
                watched.tracks[pair] = tracked(watched.tracks[pair], watched.sent[other.region], number, now)

    # -------------------------------------------------------------------------------------------------------- telling

    def _publish(self, key: Key, watched: _Watched, troubles: dict[str, AwsAway | AwsRefused]) -> None:
        now = self._clock()
        before = concluded(watched.findings)
        watched.findings = Findings(
            {pair: lag_s(watched.tracks[pair], watched.sent[pair[0]], now) for pair in watched.pairs()},
            frozenset(region for region, error in troubles.items() if isinstance(error, AwsAway)),
            {r: (error.denied, str(error)) for r, error in troubles.items() if isinstance(error, AwsRefused)},
        )
        for region, sent in watched.sent.items():
            seen = min((track.seen for (here, _), track in watched.tracks.items() if here == region), default=0)
            watched.sent[region] = {number: at for number, at in sent.items() if number > seen}
        for pair, lag in watched.findings.lags.items():
            if lag is not None:
                LAG.labels(*key, *pair).set(lag)
        if watched.findings.rpo_s is not None:
            RPO.labels(*key).set(watched.findings.rpo_s)
        if concluded(watched.findings) != before:
            self._wake(*key)

    def _untell(self, key: Key, watched: _Watched) -> None:
        for pair in watched.pairs():
            LAG.remove(*key, *pair)
        if watched.sites:
            RPO.remove(*key)
