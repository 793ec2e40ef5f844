"""Calls that are ready in one moment, made as one.

A statement's price is mostly that it is one: two system calls, a wake-up, a transaction, a wait for the disk. Steps of
several sessions that come to the same point meanwhile share it. One call alone goes out at once; while one is under way,
those that come wait for it, as a database's own commits do. Each caller gets its own answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from agentmemory_sidecar.stores.protocols import StoreUnavailable
from agentmemory_sidecar.tasks import Tasks

MOST = 64
"""Calls made as one."""
PATIENCE_S = 0.02
"""How long a call under way holds up those that wait: one that is stuck must not keep everybody."""

Call = TypeVar("Call")
Answer = TypeVar("Answer")


class Gathered(Generic[Call, Answer]):
    """Makes calls through ``make``, which takes one or more and returns their answers in order (an answer may be an
    exception, raised for its caller alone). A ValueError of several is one call's fault, so each is made by itself then;
    any other exception is every caller's."""

    def __init__(self, tasks: Tasks, name: str, make: Callable[[Sequence[Call]], Awaitable[Sequence[Answer]]]) -> None:
        self._tasks, self._name, self._make = tasks, name, make
        self._waiting: list[tuple[Call, asyncio.Future[Answer]]] = []
        self._under_way = 0
        self._due = False
        self._patience: asyncio.TimerHandle | None = None
        self._closed = False

    def ask(self, call: Call) -> asyncio.Future[Answer]:
        """Its answer, to be awaited. A caller that gives up does not stop the call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if self._closed:
            _fail(future, StoreUnavailable("postgres", "the store was closed", definite=True))
            return future
        self._waiting.append((call, future))
        if self._due:
            return future
        if not self._under_way:
            self._go()
        elif self._patience is None:
            self._patience = loop.call_later(PATIENCE_S, self._go)
        return future

    def _go(self) -> None:
        """Have what waits made. A task begins with the loop's next turn: what comes until then goes along."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if not self._due:
            self._due = True
            self._tasks.start(self._run(), self._name)

    async def _run(self) -> None:
        self._due = False
        batch = [pair for pair in self._waiting[:MOST] if not pair[1].done()]
        del self._waiting[:MOST]
        self._under_way += 1
        try:
            try:
                if batch:
                    await self._answer(batch)
            except ValueError as error:
                if len(batch) == 1:
                    _fail(batch[0][1], error)
                for pair in batch if len(batch) > 1 else ():
                    try:
                        await self._answer([pair])
                    except (ValueError, StoreUnavailable) as own:
                        _fail(pair[1], own)
        except BaseException as error:
            lost = StoreUnavailable("postgres", "the store was closed", definite=False)
            for _, future in batch:
                _fail(future, error if isinstance(error, Exception) else lost)
            if not isinstance(error, StoreUnavailable):
                raise
        finally:
            self._under_way -= 1
            if self._waiting:
                self._go()

    async def _answer(self, batch: list[tuple[Call, asyncio.Future[Answer]]]) -> None:
        answers = await self._make([call for call, _ in batch])
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                _fail(future, answer)
            elif not future.done():
                future.set_result(answer)

    def close(self) -> None:
        """Refuse what waits and what comes."""
        self._closed = True
        if self._patience is not None:
            self._patience.cancel()
        for _, future in self._waiting:
            _fail(future, StoreUnavailable("postgres", "the store was closed", definite=True))
        self._waiting.clear()


def _fail(future: "asyncio.Future[Answer]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # who asked may have stopped waiting: then nobody else marks it as seen
