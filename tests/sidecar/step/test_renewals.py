"""Locks are renewed while their steps run, whatever becomes of the hot tier."""

import asyncio
import contextlib
import logging

import pytest

from agentmemory_sidecar.step.renewals import Renewals
from agentmemory_sidecar.stores.protocols import StoreUnavailable


class Lock:
    def __init__(self, *, away: bool = False) -> None:
        self.renewed = 0
        self.away = away

    async def renew(self) -> None:
        self.renewed += 1
        if self.away:
            raise StoreUnavailable("redis", "gone", definite=True)


async def test_each_lock_is_renewed_until_it_is_taken_out(caplog: pytest.LogCaptureFixture) -> None:
    renewals, held, away, done = Renewals(0.02), Lock(), Lock(away=True), Lock()
    for lock in (held, away, done):
        renewals.add(lock)
    renewals.remove(done)
    running = asyncio.get_running_loop().create_task(renewals.run())

    with caplog.at_level(logging.WARNING):
        while held.renewed < 3 or away.renewed < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    assert done.renewed == 0
    assert len(renewals) == 2
    assert "could not be renewed: redis" in caplog.text
    renewals.remove(held)
    renewals.remove(held)
    assert len(renewals) == 1
