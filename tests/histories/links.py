"""What lies between one sidecar and a store: time that passes, and everything that may go wrong on the way.

A call is carried out by the store at one moment. It may be refused before, its answer may be lost after, and the sidecar
may die on either side of it. A dead sidecar has no effect on anything any more.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn, TypeVar

from agentmemory_sidecar.stores.protocols import AlreadyWritten, Locked, StaleWrite, StoreUnavailable

T = TypeVar("T")

REFUSALS = (AlreadyWritten, Locked, StaleWrite)
"""What a store says no with."""
TIMEOUT_S = 1.0
"""How long a sidecar waits for an answer that does not come."""


class Kind(Enum):
    """What happens at a call."""

    REFUSED = "refused"
    LOST = "answer lost"
    SLOW = "slow"
    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"


@dataclass(slots=True)
class Planned:
    """A fault that waits for its call."""

    kind: Kind
    name: str = ""
    """Beginning of the call's name: ``state.write``, ``hot.``; empty for any."""
    skip: int = 0
    """Calls of that name to let pass first."""


@dataclass(eq=False)
class Link:
    """The ways of one sidecar to all its stores. Without ``rng`` no time passes."""

    rng: random.Random | None = None
    most_s: float = 0.02
    """The longest way in one direction."""
    down: set[str] = field(default_factory=set)
    """Stores that cannot be reached: ``hot``, ``state``, ``records``, ``blobs``."""
    planned: list[Planned] = field(default_factory=list)
    loss: float = 0.0
    """How likely a call is refused, or its answer lost, without any plan."""
    slow_s: float = TIMEOUT_S * 0.9
    """How long a slow call to a server is held back."""
    killed: bool = False
    on_kill: Callable[[], object] = lambda: None
    told: Callable[[str], object] = lambda _: None

    async def call(self, name: str, effect: Callable[[], T]) -> T:
        """Have the store do something. Raises StoreUnavailable, and what the effect raises."""
        if self.killed:
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        fault = self._next(name) if self.planned or self.loss else None
        store = name[: name.index(".")]
        if fault is Kind.REFUSED or store in self.down:
            await asyncio.sleep(0)  # nothing is refused before the other calls of this moment have begun
            raise StoreUnavailable(store, "refused", definite=True)
        if fault is Kind.KILLED_BEFORE:
            await asyncio.sleep(0)
            self._die()
        if self.rng is not None:
            slow = TIMEOUT_S * 0.9 if fault is Kind.SLOW else 0.0
            try:
                await asyncio.sleep(self.rng.random() * self.most_s + slow)
            except asyncio.CancelledError:
                if self.rng.random() < 0.5:
                    # Nobody waits for the answer any more, but the request is out.
                    with contextlib.suppress(*REFUSALS):
                        effect()
                raise
            if self.killed:
                raise asyncio.CancelledError
        if fault is Kind.LOST:
            with contextlib.suppress(*REFUSALS):
                effect()
            await asyncio.sleep(TIMEOUT_S if self.rng is not None else 0)
            raise StoreUnavailable(store, "no answer", definite=False)
        result = effect()
        if fault is Kind.KILLED_AFTER:
            self._die()
        if self.rng is not None and self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.random() * self.most_s)
            if self.killed:
                raise asyncio.CancelledError
        return result

    async def send(self, name: str, request: Callable[[], Awaitable[T]], lose: Callable[[], object]) -> T:
        """Likewise where the store is a server: ``lose`` has the network swallow the next answer. What a sidecar has sent
        when it dies may still have its effect."""
        if self.killed:
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        match self._next(name):
            case Kind.REFUSED:
                raise StoreUnavailable(name[: name.index(".")], "refused", definite=True)
            case Kind.KILLED_BEFORE:
                self._die()
            case Kind.SLOW:
                await asyncio.sleep(self.slow_s)
            case Kind.LOST:
                lose()
            case Kind.KILLED_AFTER:
                with contextlib.suppress(StoreUnavailable, *REFUSALS):
                    await request()
                self._die()
        result = await request()
        if self.killed:
            raise asyncio.CancelledError
        return result

    def _next(self, name: str) -> Kind | None:
        for planned in self.planned:
            if name.startswith(planned.name):
                if planned.skip:
                    planned.skip -= 1
                    continue
                self.planned.remove(planned)
                self.told(f"{planned.kind.value} at {name}")
                return planned.kind
        if self.loss and self.rng is not None and self.rng.random() < self.loss:
            kind = self.rng.choice([Kind.LOST, Kind.LOST, Kind.REFUSED, Kind.SLOW])
            self.told(f"{kind.value} at {name}")
            return kind
        return None

    def _die(self) -> NoReturn:
        self.killed = True
        self.on_kill()
        raise asyncio.CancelledError
