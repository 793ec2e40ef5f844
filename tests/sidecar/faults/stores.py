"""Faults between one sidecar and its stores: refused calls, lost answers, pauses and the death of the process.

Every call of every store passes here, in both directions, and can be stopped before or after its effect. A call that is not
stopped reaches the real store unchanged.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar, cast

from agentmemory_sidecar.stores.opened import Stores
from agentmemory_sidecar.stores.protocols import StoreUnavailable

S = TypeVar("S")


class Kind(Enum):
    """What happens at a call."""

    REFUSED = "refused before the effect"
    LOST = "answer lost after the effect"
    PAUSED_BEFORE = "process paused before the effect"
    PAUSED_AFTER = "process paused after the effect"
    KILLED_BEFORE = "process killed before the effect"
    KILLED_AFTER = "process killed after the effect"


PAUSES = (Kind.PAUSED_BEFORE, Kind.PAUSED_AFTER)


@dataclass(slots=True)
class Planned:
    """A fault that waits for its call."""

    kind: Kind
    skip: int = 0
    """Matching calls to let pass first."""
    name: str = ""
    """``hot.begin``, say, or ``hot.`` for all of a store; empty for any call."""


@dataclass(eq=False)
class Faults:
    """What goes wrong between one sidecar and its stores."""

    pause_s: float = 0.0
    """How long a paused process stands still."""
    calls: list[str] = field(default_factory=list)
    """Names of all calls so far."""
    happened: list[tuple[str, Kind]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    """Stores that refuse every call: ``hot``, ``state``, ``records``, ``blobs``."""
    killed: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: set[str] = field(default_factory=set)
    """Steps whose reply the sidecar believes to have arrived."""
    _planned: list[Planned] = field(default_factory=list)
    _running: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._running.set()

    def plan(self, kind: Kind, *, skip: int = 0, name: str = "") -> None:
        self._planned.append(Planned(kind, skip, name))

    def clear(self) -> None:
        """Forget what was planned; what has happened stays."""
        self._planned.clear()
        self.down.clear()

    @property
    def waiting(self) -> bool:
        return bool(self._planned)

    async def pause(self) -> None:
        """Stand still: no other call of this process goes out meanwhile either.

        The clock ends it, not the call that met it: a call whose client hangs up is cancelled while it waits here.
        """
        self._running.clear()
        asyncio.get_running_loop().call_later(self.pause_s, self._running.set)
        await self._running.wait()

    def _due(self, name: str) -> Kind | None:
        for planned in self._planned:
            if name.startswith(planned.name):
                if planned.skip == 0:
                    self._planned.remove(planned)
                    self.happened.append((name, planned.kind))
                    return planned.kind
                planned.skip -= 1
        return None

    async def around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._passable(name)
        self.calls.append(name)
        kind = self._due(name)
        if kind is Kind.KILLED_BEFORE:
            self._kill(name)
        if kind is Kind.REFUSED or name.partition(".")[0] in self.down:
            raise StoreUnavailable(name, "refused by a test", definite=True)
        if kind is Kind.PAUSED_BEFORE:
            await self.pause()
        result = await call()
        if kind is Kind.LOST:
            raise StoreUnavailable(name, "answer lost by a test", definite=False)
        if kind is Kind.KILLED_AFTER:
            self._kill(name)
        if kind is Kind.PAUSED_AFTER:
            await self.pause()
        await self._passable(name)
        return result

    async def _passable(self, name: str) -> None:
        await self._running.wait()
        if self.killed.is_set():
            raise StoreUnavailable(name, "the process is dead", definite=False)

    def _kill(self, name: str) -> None:
        self.killed.set()
        raise StoreUnavailable(name, "the process died here", definite=False)


class _Faulty:
    """Stands before one store. Iterators and plain attributes pass; every awaited call goes through ``Faults.around``."""

    def __init__(self, inner: object, name: str, faults: Faults) -> None:
        self._inner, self._name, self._faults = inner, name, faults

    async def close(self) -> None:
        """The store is shared; who opened it closes it."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **named: Any) -> Any:
            if name == "acknowledge":
                self._faults.acknowledged.add(args[1])
            return await self._faults.around(f"{self._name}.{name}", lambda: found(*args, **named))

        return call


def faulty(store: S, name: str, faults: Faults) -> S:
    return cast(S, _Faulty(store, name, faults))


def faulty_stores(stores: Stores, faults: Faults) -> Stores:
    """The same stores as one sidecar reaches them."""
    return Stores(
        faulty(stores.hot, "hot", faults),
        faulty(stores.state, "state", faults),
        faulty(stores.records, "records", faults),
        faulty(stores.blobs, "blobs", faults),
    )
