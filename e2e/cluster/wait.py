"""Waiting with a bound, and with an answer to why it was in vain."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from e2e.cluster.shell import Failed

T = TypeVar("T")


async def until(what: str, look: Callable[[], Awaitable[T | None]], *, timeout_s: float, every_s: float = 1.0) -> T:
    """What ``look`` finds, once that is true. Its AssertionErrors count as "not yet"; the last is in Failed's text."""
    end = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            found = await look()
            if found:
                return found
            last = found
        except AssertionError as error:
            last = error
        if time.monotonic() > end:
            raise Failed(f"waited {timeout_s:.0f} s in vain for {what}; last: {last}")
        await asyncio.sleep(every_s)
