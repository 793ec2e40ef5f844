"""A store that has just failed is not asked again at once: a turn must not wait for the same time-out each time."""

import time
from collections.abc import Callable


class Cooldown:
    """Closed for ``seconds`` after a failure, and for twice as long after each that follows, up to ``longest``; then the
    next caller tries again."""

    def __init__(self, seconds: float, longest: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._first, self._longest = seconds, max(seconds, longest)
        self._seconds = seconds
        self._clock = clock
        self._until = 0.0

    @property
    def ready(self) -> bool:
        return self._clock() >= self._until

    def failed(self) -> None:
        if self.ready:
            self._until = self._clock() + self._seconds
            self._seconds = min(self._seconds * 2, self._longest)

    def worked(self) -> None:
        self._until = 0.0
        self._seconds = self._first
