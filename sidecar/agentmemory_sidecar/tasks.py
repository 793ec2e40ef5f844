"""Background tasks that are held, named, reported and ended."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """A set of running tasks.

    The event loop keeps only weak references, so a bare ``create_task`` can vanish in mid-work; and an exception in it
    is seen by nobody. Here a task is held until it ends, and its failure is logged with its name.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str, *, awaited: bool = False) -> asyncio.Task[Any]:
        """``awaited``: somebody waits for the result and takes the failure, so it is not logged."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._taken if awaited else self._ended)
        return task

    def _taken(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # who waited may have stopped waiting: then nobody else marks it as seen

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The type only: an exception's text may quote what a user wrote.
            log.error("background task %s failed: %s", task.get_name(), type(error).__name__)

    def __len__(self) -> int:
        return len(self._running)

    async def drain(self, seconds: float) -> None:
        """Let the tasks finish for so long; those that do not go on."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
