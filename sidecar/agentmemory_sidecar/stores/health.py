"""A store that has just failed is not asked again at once: a turn must not wait for the same time-out each time."""

import time
from collections.abc import Callable


class Cooldown:
    """Closed for ``seconds`` after each failure; then the next caller tries again."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until = 0.0

    @property
    def ready(self) -> bool:
        return self._clock() >= self._until

    def failed(self) -> None:
        self._until = self._clock() + self._seconds

    def worked(self) -> None:
        self._until = 0.0
