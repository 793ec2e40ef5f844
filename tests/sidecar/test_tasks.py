import asyncio
import logging

import pytest

from agentmemory_sidecar.tasks import Tasks


async def fail() -> None:
    raise ValueError("what a user wrote")


async def test_a_failure_is_logged_by_name_and_type_and_not_by_its_text(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    tasks.start(fail(), "carry records")
    await tasks.drain(5)
    assert [record.getMessage() for record in caplog.records] == ["background task carry records failed: ValueError"]


async def test_who_waits_takes_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    with pytest.raises(ValueError, match="wrote"):
        await tasks.start(fail(), "read", awaited=True)
    tasks.start(fail(), "read, and nobody comes", awaited=True)
    await tasks.drain(5)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_closing_ends_what_runs() -> None:
    tasks = Tasks()
    task = tasks.start(asyncio.sleep(3600), "sleep")
    assert len(tasks) == 1
    await tasks.close()
    assert task.cancelled()
    assert len(tasks) == 0
