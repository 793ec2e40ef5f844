"""Fixtures around the strict Claude."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.claude.server import StrictClaude

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def claude() -> AsyncIterator[StrictClaude]:
    """A strict Claude inside the test's own event loop."""
    async with StrictClaude() as server:
        yield server


@dataclass(frozen=True)
class ClaudeProcess:
    """A strict Claude in a process of its own; what it remembers is asked for over HTTP."""

    url: str
    pid: int

    async def script(self, *replies: Any) -> None:
        """Queue replies: dicts of the fields of ``Reply``, or strings."""
        await self._call("POST", "/__claude/script", list(replies))

    async def requests(self) -> list[dict[str, Any]]:
        """What it recorded, as ``Recorded.as_json`` gives it."""
        rows: list[dict[str, Any]] = (await self._call("GET", "/__claude/requests"))["requests"]
        return rows

    async def counters(self) -> dict[str, int]:
        counters: dict[str, int] = await self._call("GET", "/__claude/counters")
        return counters

    async def reset(self) -> None:
        await self._call("POST", "/__claude/reset")

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        async with aiohttp.ClientSession(self.url) as session, session.request(method, path, json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return answer


@pytest.fixture(scope="session")
def _claude_process() -> Iterator[ClaudeProcess]:
    process = subprocess.Popen([sys.executable, "-m", "tests.claude"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("strict Claude on "), f"the strict Claude did not start: {line!r}"
        yield ClaudeProcess(line.split()[-1], process.pid)
    finally:
        process.terminate()
        code = process.wait(10)
        if process.stdout:
            process.stdout.close()
    assert code == 0, f"the strict Claude ended with {code} at SIGTERM"


@pytest.fixture
async def claude_process(_claude_process: ClaudeProcess) -> ClaudeProcess:
    """A strict Claude in a process of its own (one for the whole run), reset for this test."""
    await _claude_process.reset()
    return _claude_process
