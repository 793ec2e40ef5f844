"""Leader election by a Lease: one operator acts, the others wait.

As client-go does it: the holder renews every 2 s; who waits takes over when the record has not changed for 15 s by the
own monotonic clock (another's wall clock is never compared); who could not renew for 10 s has lost and must end at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from agentmemory_operator.kube import LEASE, Conflict, Kube, KubeError, KubeUnreachable

log = logging.getLogger(__name__)

LEASE_S, RENEW_S, RETRY_S = 15.0, 10.0, 2.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What a candidate knows: the record as last seen, and since when it has been like that."""

    record: Mapping[str, Any] = field(default_factory=dict)
    since: float = 0.0

    def seen(self, record: Mapping[str, Any], now: float) -> "Watched":
        return self if record == self.record and self.since else replace(self, record=record, since=now)

    def free(self, identity: str, now: float) -> bool:
        """Whether ``identity`` may take the Lease."""
        holder = self.record.get("holderIdentity")
        return holder in (None, "", identity) or now - self.since >= self.record.get("leaseDurationSeconds", LEASE_S)


class Election:
    """One candidate. ``acquire`` returns when it leads; ``hold`` returns when it no longer does."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._namespace, self._name, self._identity = namespace, name, identity
        self._clock, self._today = clock, today
        self._watched = Watched()

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while True:
            try:
                if await self._take():
                    log.info("%s leads", self._identity)
                    return
            except (KubeError, KubeUnreachable) as error:
                log.warning("the Lease %s cannot be had: %s", self._name, error)
            await asyncio.sleep(RETRY_S)

    async def hold(self) -> None:
        """Renew until that fails for longer than a holder may be silent."""
        renewed = self._clock()
        while self._clock() - renewed < RENEW_S:
            await asyncio.sleep(RETRY_S)
            try:
                async with asyncio.timeout(RENEW_S / 2):
                    if not await self._take():
                        log.error("another holds the Lease %s", self._name)
                        return
                renewed = self._clock()
            except (KubeError, KubeUnreachable, TimeoutError) as error:
                log.warning("the Lease %s was not renewed: %s", self._name, str(error) or "no answer in time")

    async def release(self) -> None:
        """Let the next one begin at once."""
        try:
            lease = await self._kube.get(LEASE, self._namespace, self._name)
            if lease and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                await self._kube.replace(lease)
        except (KubeError, KubeUnreachable) as error:
            log.warning("the Lease %s was not released: %s", self._name, error)

    async def _take(self) -> bool:
        """Take or renew the Lease if it may be; whether it is ours now."""
        lease = await self._kube.get(LEASE, self._namespace, self._name)
        if lease is None:
            return await self._write(self._kube.create, self._new())
        record = lease.get("spec") or {}
        self._watched = self._watched.seen(record, self._clock())
        if not self._watched.free(self._identity, self._clock()):
            return False
        taken = record.get("holderIdentity") != self._identity
        spec = record | {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(LEASE_S),
            "renewTime": self._now(),
        }
        if taken:
            spec |= {"acquireTime": self._now(), "leaseTransitions": record.get("leaseTransitions", 0) + 1}
        return await self._write(self._kube.replace, lease | {"spec": spec})

    async def _write(self, call: Callable[[Mapping[str, Any]], Any], lease: Mapping[str, Any]) -> bool:
        """Guarded by the resource version: of two who try at once one gets it."""
        try:
            written = await call(lease)
        except Conflict:
            return False
        self._watched = Watched(written["spec"], self._clock())
        return True

    def _new(self) -> dict[str, Any]:
        now = self._now()
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(LEASE_S),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    def _now(self) -> str:
        return self._today().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
