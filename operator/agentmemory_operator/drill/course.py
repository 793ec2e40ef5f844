"""The course of a drill: write, hit, go on, heal, come back, look. What hits is given."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from agentmemory_operator.drill.ledger import AWAY, Fault, Run, View
from agentmemory_operator.drill.writer import Writer

Look = Callable[[str, str], Awaitable[View]]
"""A region's view of a session. Raises LookFailed."""


RETURN_EVERY_S = 5.0
"""How often a writer whose region is back is sent there again, should it have been turned away."""


class LookFailed(Exception):
    """A region did not show a session."""


class DrillFailed(Exception):
    """The drill could not be carried out; what it began is undone."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long its parts take (seconds), and how many turns each waits for."""

    hold_s: float = 20.0
    """How long the fault stays, at least."""
    turns: int = 5
    """Turns of each writer before the fault, under it, and after it."""
    wait_s: float = 120.0
    """How long each wait may last."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a drill is."""

    kind: str
    region: str
    """The region that is hit; empty for the link."""
    regions: tuple[str, ...]
    writers: Sequence[Writer]
    look: Look
    fault: Callable[[], AbstractAsyncContextManager[None]]
    """Entered it has struck; left it is undone."""
    times: Times = Times()
    marking: bool = False
    """Under the fault each writer sets the state's one mark."""
    detail: str = ""
    """What else is to be known of the fault."""

    async def run(self) -> Run:
        """Raises DrillFailed where it could not be carried out. Waits in vain after the fault end by themselves: the report
        says what is wrong then."""
        stop = asyncio.Event()
        fault: Fault | None = None
        failed: DrillFailed | None = None
        shown: tuple[View, ...] = ()
        async with asyncio.TaskGroup() as group:
            for writer in self.writers:
                group.create_task(writer.write(stop))
            try:
                fault, shown = await self._hit()
            except DrillFailed as error:
                failed = error
            finally:
                stop.set()
        if fault is None:
            raise failed or DrillFailed("nothing was done")
        attempts = tuple(each for writer in self.writers for each in writer.attempts)
        sessions = {writer.name: writer.session for writer in self.writers}
        ended = max(each.ended_s for each in attempts)
        return Run(self.regions, sessions, attempts, fault, shown, await self._converged(), ended)

    async def _hit(self) -> tuple[Fault, tuple[View, ...]]:
        homes = {writer.name: writer.region for writer in self.writers}
        if not await self._turns(0.0):
            said = sorted({each.said for writer in self.writers for each in writer.attempts if each.said})
            raise DrillFailed(
                f"the writers did not get {self.times.turns} turns acknowledged before anything was hit: "
                + ("; ".join(said) or "nobody answered")
            )
        began = time.monotonic()
        async with self.fault():
            # At once, while the writers are still on their way there.
            shown = await self._looks(dict.fromkeys(writer.session for writer in self.writers), self._others())
            for writer in self.writers if self.marking else ():
                writer.mark()
            struck = time.monotonic()
            await self._turns(struck)
            await asyncio.sleep(max(0.0, struck + self.times.hold_s - time.monotonic()))
        healed = time.monotonic()
        for writer in self.writers:
            await self._shows(homes[writer.name], writer.session)
        await self._turns(time.monotonic(), homes)
        return Fault(self.kind, self.region, began, healed, self.detail), shown

    async def _shows(self, region: str, session: str) -> None:
        """Wait until a region that was away answers again: who sends sessions back there looks first, too."""
        end = time.monotonic() + self.times.wait_s
        while time.monotonic() < end:
            try:
                await self.look(region, session)
                return
            except LookFailed:
                await asyncio.sleep(0.5)

    def _others(self) -> list[str]:
        """Where the sessions of a lost region go on."""
        return [region for region in self.regions if self.kind in AWAY and region != self.region][:1]

    async def _turns(self, since: float, homes: dict[str, str] | None = None) -> bool:
        """Wait for turns of each writer that began since then, at its home if that is asked. False where it was in vain."""
        end, sent = time.monotonic() + self.times.wait_s, 0.0
        while time.monotonic() < end:
            if homes and time.monotonic() > sent + RETURN_EVERY_S:
                sent = time.monotonic()
                for writer in self.writers:
                    writer.go(homes[writer.name])
            done = (w.acknowledged(since, homes[w.name] if homes else "") for w in self.writers)
            if all(count >= self.times.turns for count in done):
                return True
            await asyncio.sleep(0.1)
        return False

    async def _looks(self, sessions: Iterable[str], regions: Iterable[str]) -> tuple[View, ...]:
        """What is shown; nothing for a region that does not."""
        looks = [self.look(region, session) for session in sessions for region in regions]
        found = await asyncio.gather(*looks, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, LookFailed):
                raise each
        return tuple(each for each in found if not isinstance(each, BaseException))

    async def _converged(self) -> tuple[View, ...]:
        """All views, once each session looks the same everywhere, or when the wait was in vain: then those there are."""
        end = time.monotonic() + self.times.wait_s
        found: dict[str, tuple[View, ...]] = dict.fromkeys((writer.session for writer in self.writers), ())
        while time.monotonic() < end:
            left = [session for session, views in found.items() if not self._alike(views)]
            for session in left:
                found[session] = await self._looks([session], self.regions)
            if not left:
                break
            await asyncio.sleep(0.5)
        return tuple(view for views in found.values() for view in views)

    def _alike(self, views: Sequence[View]) -> bool:
        return len(views) == len(self.regions) and len({view.state for view in views}) == 1
