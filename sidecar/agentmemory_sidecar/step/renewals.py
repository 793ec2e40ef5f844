"""Keeps the locks of running steps: one loop for all of them, so that a step costs no task of its own."""

import asyncio
import logging
import time
from typing import Protocol

from agentmemory_sidecar.stores.protocols import Locked, StoreUnavailable

log = logging.getLogger(__name__)


class Renewable(Protocol):
    """A lock that must be renewed while its step runs."""

    async def renew(self) -> None: ...


class Renewals:
    """Renews each lock every ``interval`` seconds (a third of the lock's TTL: one missed renewal is survived)."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._due: dict[Renewable, float] = {}

    def add(self, lock: Renewable) -> None:
        self._due[lock] = time.monotonic() + self._interval

    def remove(self, lock: Renewable) -> None:
        self._due.pop(lock, None)

    def __len__(self) -> int:
        return len(self._due)

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._interval / 4))
            now = time.monotonic()
            due = [lock for lock, at in self._due.items() if at <= now]
            await asyncio.gather(*(self._renew(lock, now) for lock in due))

    async def _renew(self, lock: Renewable, now: float) -> None:
        try:
            await lock.renew()
        except StoreUnavailable as error:
            # The commit's version check keeps the session safe without a lock; this only says why two may run.
            log.warning("a session lock could not be renewed: %s", error.store)
        except Locked:
            log.warning("a session lock had expired, and is another step's now")
        if lock in self._due:
            self._due[lock] = now + self._interval
