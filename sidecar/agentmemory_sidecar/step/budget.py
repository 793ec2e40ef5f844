"""What all sidecars of a resource may spend in a day, kept in one item of the state tier.

A sidecar takes it in portions and spends from what it took, so that the item is written seldom. What a killed sidecar
had taken counts as spent: the limit is never exceeded by it. Regions that write heads of their own see each other's
with the lag of replication.
"""

import asyncio
from collections.abc import Callable

import msgspec

from agentmemory_sidecar.memory.extraction.unread import DAY_S, Spent, day_of, spent_today
from agentmemory_sidecar.stores.protocols import Conversation, StaleWrite, StateStore, StoreUnavailable, Versions

PORTIONS = 50
"""A portion is this part of the limit, if one call does not need more."""
TRIES = 2 * PORTIONS
"""Whoever is refused a write has seen somebody else take a portion."""
PAUSE_S = 0.005
_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.Decoder(Spent).decode


class Budget:
    """One sidecar's share of it. ``limit``: tokens a day."""

    def __init__(self, tenant: str, limit: int, now: Callable[[], float]) -> None:
        self._item = Conversation.internal(tenant, "budget", "extraction")
        self._limit, self._now = limit, now
        self._left = Spent()
        """What was taken and not spent, for the day it is of."""
        self._taking = asyncio.Lock()

    async def take(self, state: StateStore, tokens: int) -> bool:
        """Take so many; False where they are not to be had today. Raises StoreUnavailable."""
        async with self._taking:
            left = spent_today(self._left, self._now())
            if left < tokens:
                portion = await self._portion(state, tokens - left)
                if portion:
                    self.give_back(portion)
            if spent_today(self._left, self._now()) < tokens:
                return False
            self.give_back(-tokens)
            return True

    def give_back(self, tokens: int) -> None:
        """Return what a call did not need."""
        self._left = Spent(day_of(self._now()), spent_today(self._left, self._now()) + tokens)

    async def _portion(self, state: StateStore, needed: int) -> int:
        for attempt in range(TRIES):
            stored = await state.read(self._item)
            now = self._now()
            own = spent_today(_read(stored.body), now)
            others = sum(spent_today(_read(other.body), now) for other in stored.others)
            free = self._limit - own - others
            if free < needed:
                return 0
            portion = min(free, max(needed, self._limit // PORTIONS))
            new = Versions(0, stored.versions.version + 1)
            body = _encode(Spent(day_of(now), own + portion))
            try:
                await state.write(self._item, body, expect=stored.versions, new=new, pending=False, ttl_s=2 * DAY_S)
            except StaleWrite:
                await asyncio.sleep(PAUSE_S * min(attempt, 20))
                continue
            return portion
        raise StoreUnavailable("state", "the budget kept changing", definite=True)


def _read(body: bytes) -> Spent:
    return _decode(body) if body else Spent()
