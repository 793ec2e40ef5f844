"""Who waits for what: each resource's loop sleeps until its time comes or somebody touched what belongs to it."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from agentmemory_operator import names

Key = tuple[str, str]
"""Namespace and name of a resource, the name as it stands in a label."""


class Sleepers:
    """The loops of all resources, and how each is doing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._events: dict[Key, asyncio.Event] = {}
        self._due: dict[Key, float] = {}

    @staticmethod
    def key(namespace: str, name: str) -> Key:
        return namespace, names.label(name)

    def wake(self, namespace: str, label: str) -> None:
        """Something that carries ``label`` as its resource has changed."""
        if event := self._events.get((namespace, label)):
            event.set()

    def wake_namespace(self, namespace: str) -> None:
        """A resource came or went: its neighbours' shared configuration depends on it."""
        for key, event in self._events.items():
            if key[0] == namespace:
                event.set()

    async def sleep(self, key: Key, seconds: float) -> None:
        """Until woken, ``seconds`` at most."""
        event = self._events.setdefault(key, asyncio.Event())
        self._due[key] = self._clock() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        event.clear()
        self._due[key] = self._clock()

    def begin(self, key: Key) -> None:
        self._events.setdefault(key, asyncio.Event())
        self._due[key] = self._clock()

    def end(self, key: Key) -> None:
        self._events.pop(key, None)
        self._due.pop(key, None)

    def stalled(self, grace_s: float) -> list[Key]:
        """The loops that should have ticked more than ``grace_s`` seconds ago."""
        now = self._clock()
        return [key for key, due in tuple(self._due.items()) if now - due > grace_s]
