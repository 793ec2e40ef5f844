"""The constant writer: numbered turns, one after the other, in one region while that answers and else in the next."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Protocol
from urllib.parse import quote

from agentmemory_operator.drill.conversation import Answer, Conversation, Verdict, judge
from agentmemory_operator.drill.ledger import Attempt, Outcome
from agentmemory_operator.drill.line import Lost

REFUSALS = 3
"""So many refusals in a row, and a turn is tried in the next region."""
PAUSE_S = 0.2


class Asks(Protocol):
    """A region's way in."""

    async def ask(self, path: str, body: dict[str, Any], timeout_s: float) -> Answer:
        """Raises Lost."""
        ...


class Writer:
    """One conversation's client. It stands outside of what is hit, and knows what was acknowledged."""

    def __init__(
        self,
        name: str,
        session: str,
        regions: Sequence[str],
        lines: Mapping[str, Asks],
        conversation: Conversation,
        *,
        patience_s: float,
        pause_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.session = session
        self.attempts: list[Attempt] = []
        self._regions = list(regions)
        """In the order in which they are turned to; the first is where it writes now."""
        self._lines = lines
        self._conversation = conversation
        self._patience_s = patience_s
        self._pause_s = pause_s
        self._clock = clock
        self._mark_next = False
        self._numbers = count(1)

    @property
    def region(self) -> str:
        return self._regions[0]

    def go(self, region: str) -> None:
        """From the next attempt on, write there."""
        self._regions = [region] + [each for each in self._regions if each != region]

    def mark(self) -> None:
        """Let the next turn set the state's mark."""
        self._mark_next = True

    def acknowledged(self, since_s: float = 0.0, region: str = "") -> int:
        """How many turns that began since then, in that region."""
        return sum(
            bool(each.note)
            and each.outcome is Outcome.ACKNOWLEDGED
            and each.began_s >= since_s
            and region in ("", each.region)
            for each in self.attempts
        )

    async def write(self, stop: asyncio.Event) -> None:
        """Turns until ``stop``; the last one is tried until it has an answer, ten times at most."""
        while not stop.is_set():
            number, mark = next(self._numbers), self._mark_next
            self._mark_next = False
            await self._step(stop, number, mark=mark)
            if self._conversation.closing():
                await self._step(stop, number, closing=True)
            await asyncio.sleep(self._pause_s)

    async def _step(self, stop: asyncio.Event, number: int, *, mark: bool = False, closing: bool = False) -> None:
        """One step, tried until it has an answer: in this region, and in the next where this one does not give any."""
        refusals, left, fresh = 0, 10, 0
        while left:
            left -= stop.is_set()
            region = self.region
            # Whose reply the agent may have had and lost, the sidecar cannot take for a reply that never arrived: to say
            # the same again would be a second turn. So it has a name of its own.
            note = "" if closing else f"{self.name}/{number}/{region}" + (f"/{fresh}" if fresh else "")
            marked = note if mark else ""
            body = self._conversation.closing() if closing else self._conversation.request(note, marked)
            assert body is not None
            began = self._clock()
            verdict, answer = await self._attempt(region, body, closing=closing)
            self.attempts.append(
                Attempt(
                    self.name, number, note, region, began, self._clock(), verdict.outcome, verdict.said,
                    verdict.replayed, marked,
                )
            )  # fmt: skip
            if answer is not None:
                self._conversation.answered(body, answer)
                return
            fresh += verdict.outcome is Outcome.LOST and not verdict.unheard
            refusals += 1
            if verdict.outcome is Outcome.LOST or refusals >= REFUSALS:
                refusals = 0
                # Unless somebody has sent it elsewhere meanwhile.
                if self.region == region:
                    self._regions.append(self._regions.pop(0))
            await asyncio.sleep(PAUSE_S)

    async def _attempt(self, region: str, body: dict[str, Any], *, closing: bool) -> tuple[Verdict, Answer | None]:
        """The answer only where the step is over."""
        try:
            answer = await self._lines[region].ask(f"/s/{quote(self.session)}/v1/messages", body, self._patience_s)
        except Lost as error:
            return Verdict(Outcome.LOST, str(error), unheard=error.unheard), None
        verdict = judge(answer)
        if verdict.outcome is not Outcome.ACKNOWLEDGED:
            return verdict, None
        # Claude did answer, but without a note: no acknowledged turn to look for, and no use in asking the same again.
        return (verdict if verdict.called or closing else Verdict(Outcome.REFUSED, verdict.said)), answer
