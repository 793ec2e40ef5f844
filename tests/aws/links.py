"""What travels between regions: in order on each link, after a lag, and not while the link is cut."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import permutations

Delivery = Callable[[], Awaitable[None]]
RETRY_S = 0.2


class Link:
    """One direction between two regions."""

    def __init__(self) -> None:
        self.lag_s = 0.0
        self.cut = False
        self.changed = asyncio.Event()
        self._waiting: deque[tuple[float, Delivery]] = deque()

    def send(self, delivery: Delivery) -> None:
        self._waiting.append((time.monotonic(), delivery))
        self.changed.set()

    @property
    def pending(self) -> int:
        """What is under way, that in delivery included."""
        return len(self._waiting)

    async def carry(self) -> None:
        """Deliver for ever. A delivery that fails is tried again, and what is behind it waits."""
        while True:
            self.changed.clear()
            if self.cut or not self._waiting:
                await self.changed.wait()
                continue
            sent, delivery = self._waiting[0]
            left = sent + self.lag_s - time.monotonic()
            if left > 0:
                await self._sleep(left)
                continue
            try:
                await delivery()
            except OSError:
                await asyncio.sleep(RETRY_S)
            else:
                self._waiting.popleft()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.changed.wait(), seconds)
        except TimeoutError:
            return


class Links:
    """All directions between all regions."""

    def __init__(self, regions: Iterable[str]) -> None:
        self._links = {pair: Link() for pair in permutations(regions, 2)}

    def send(self, source: str, target: str, delivery: Delivery) -> None:
        self._links[source, target].send(delivery)

    def set(self, source: str = "*", target: str = "*", *, lag_s: float | None = None, cut: bool | None = None) -> None:
        """Change every link from ``source`` to ``target``; ``*`` stands for all."""
        for (here, there), link in self._links.items():
            if source in ("*", here) and target in ("*", there):
                link.lag_s = link.lag_s if lag_s is None else lag_s
                link.cut = link.cut if cut is None else cut
                link.changed.set()

    def isolate(self, region: str) -> None:
        """Cut everything to and from a region."""
        self.set(source=region, cut=True)
        self.set(target=region, cut=True)

    def heal(self) -> None:
        self.set(cut=False)

    def open(self, one: str, other: str) -> bool:
        """Whether two regions reach each other both ways."""
        return one == other or not (self._links[one, other].cut or self._links[other, one].cut)

    def pending(self, *, beyond_cuts: bool = True) -> int:
        """How much is under way; ``beyond_cuts=False`` leaves out what a cut holds."""
        return sum(link.pending for link in self._links.values() if beyond_cuts or not link.cut)

    async def settle(self) -> None:
        """Wait until all that can arrive has arrived."""
        while self.pending(beyond_cuts=False):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def carriers(self) -> list[Callable[[], Awaitable[None]]]:
        return [link.carry for link in self._links.values()]

    def shown(self) -> list[dict[str, object]]:
        return [
            {"from": here, "to": there, "lag": link.lag_s, "cut": link.cut, "pending": link.pending}
            for (here, there), link in self._links.items()
        ]
