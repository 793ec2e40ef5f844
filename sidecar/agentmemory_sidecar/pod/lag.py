"""Whether the event loop gets round: one that is held up answers nobody, its probe included."""

import asyncio

BEAT_S = 0.5
SILENT_S = 15.0
"""Without a beat for so long, what beats has died."""
LATE_S = 10.0


class Heartbeat:
    """``run`` beats; ``alive`` is for a liveness probe."""

    def __init__(self) -> None:
        self.lag = 0.0
        """How late the latest beat was (seconds)."""
        self._at: float | None = None

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        self._at = loop.time()
        while True:
            await asyncio.sleep(BEAT_S)
            now = loop.time()
            self.lag, self._at = max(0.0, now - self._at - BEAT_S), now

    def alive(self) -> bool:
        if self._at is None:
            return True
        return self.lag < LATE_S and asyncio.get_running_loop().time() - self._at < SILENT_S
