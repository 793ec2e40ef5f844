"""The heartbeat: how late the loop is, and whether it beats at all."""

import asyncio
import time

import pytest

from agentmemory_sidecar.pod import lag
from agentmemory_sidecar.pod.lag import Heartbeat
from agentmemory_sidecar.tasks import Tasks


async def test_held_up_loop_is_seen_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "BEAT_S", 0.01)
    monkeypatch.setattr(lag, "LATE_S", 0.2)
    heartbeat, tasks = Heartbeat(), Tasks()
    assert heartbeat.alive()
    tasks.start(heartbeat.run(), "beat")
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - that is what is to be seen
    async with asyncio.timeout(30):
        while heartbeat.alive():  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert heartbeat.lag >= 0.2
        while not heartbeat.alive():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await tasks.close()


async def test_heartbeat_that_has_died_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "SILENT_S", 0.05)
    heartbeat, tasks = Heartbeat(), Tasks()
    tasks.start(heartbeat.run(), "beat")
    await asyncio.sleep(0)
    await tasks.close()
    async with asyncio.timeout(30):
        while heartbeat.alive():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
