"""An event loop in virtual time: whenever all wait, its clock jumps to the next timer. Nothing depends on how fast the
machine is, so a seed always gives the same history."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

BEGIN = 1_000.0
"""What the clocks show at the beginning (seconds): after zero, so that no lifetime begins before it."""
EPOCH = 1_750_000_000.0
"""What a calendar adds to that."""


class Deadlock(Exception):
    """Everybody waits for somebody else, and no timer runs."""


class _Jumps:
    """Stands where a loop has its selector: instead of waiting, time passes at once."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock
        if timeout > 0:
            self._loop.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """No sockets, threads or signals: what runs on it talks to models alone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self._selector = _Jumps(self)
        self.failures: list[dict[str, Any]] = []
        """What nobody caught."""
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.now

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until something holds."""
        while not condition():
            self.run_until_complete(asyncio.sleep(1))

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        raise AssertionError("a thread has no business here")


class LoopClock:
    """Has the functions of the module ``time`` that the product asks, in the running loop's time."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    perf_counter = monotonic

    @staticmethod
    def time() -> float:
        return EPOCH + asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a loop of its own. What is left over then is cancelled."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
