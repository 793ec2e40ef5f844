"""A line to a pod: one ``kubectl exec`` that stays open, so that a turn costs no process."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from agentmemory_operator.drill.conversation import Answer

SCRIPT, FREEZE, SKEW = (Path(__file__).with_name(name).read_text() for name in ("agent.py", "freeze.py", "skew.py"))
"""What is handed to a pod's Python: the drill's hands, what stops and continues its processes, a clock that is off."""
_LINE_BYTES = 1 << 25

Command = Callable[[], Awaitable[Sequence[str]]]
"""Finds a pod that serves, and says what runs the script there. Raises Lost where there is none."""


AGENT_FIRST_S = 0.5
"""So much earlier than the line the agent gives up, so that it can say so."""


class Lost(Exception):
    """No answer came: nobody knows whether the turn was saved. ``unheard``: the agent itself said that it had none, so the
    sidecar knows that its reply did not arrive; else the agent may have had it, and have gone with it."""

    def __init__(self, said: str, *, unheard: bool = False) -> None:
        super().__init__(said)
        self.unheard = unheard


class Line:
    """Requests through one region's pods, one at a time. Opens itself, and anew after a loss."""

    def __init__(self, command: Command, opening_s: float = 10.0) -> None:
        self._command = command
        self._opening_s = opening_s
        self._process: asyncio.subprocess.Process | None = None
        self.first: dict[str, Any] = {}
        """What the script said when it began."""

    async def ask(self, path: str, body: dict[str, Any], timeout_s: float) -> Answer:
        """Raises Lost."""
        process = await self.open()
        assert process.stdin is not None
        request = json.dumps({"path": path, "body": body, "timeout": max(0.1, timeout_s - AGENT_FIRST_S)}) + "\n"
        try:
            process.stdin.write(request.encode())
            async with asyncio.timeout(timeout_s):
                await process.stdin.drain()
                found = await self._read(process)
        except (OSError, TimeoutError) as error:
            await self.close()
            raise Lost(type(error).__name__) from None
        except BaseException:
            await self.close()  # an answer that nobody waits for must not be the next one's
            raise
        if "lost" in found:
            await self.close()  # the pod may be on its way out: the next try looks for one that serves
            raise Lost(found["lost"], unheard=True)
        return Answer(found["status"], found["headers"], found["body"])

    async def open(self, wait_s: float = 0.0) -> asyncio.subprocess.Process:
        """``wait_s``: for how long, where that is longer than while somebody waits for an answer. Raises Lost."""
        if self._process is not None:
            return self._process
        try:
            async with asyncio.timeout(max(wait_s, self._opening_s)):
                command = await self._command()
                self._process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL, limit=_LINE_BYTES, start_new_session=True,
                )  # fmt: skip
                self.first = await self._read(self._process)
        except TimeoutError:
            await self.close()
            raise Lost("no pod answers") from None
        except BaseException:
            await self.close()
            raise
        return self._process

    async def end(self, wait_s: float) -> None:
        """Let the script come to its own end. Raises Lost where it does not."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(wait_s):
                await self._process.wait()
        except TimeoutError:
            raise Lost("its end did not come") from None
        finally:
            await self.close()

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            await self.close()
            raise Lost("the pod's line is closed")
        found: dict[str, Any] = json.loads(line)
        return found


class Rotation:
    """Requests through several lines, each through the next."""

    def __init__(self, *lines: Line) -> None:
        self.lines: tuple[Line, ...] = lines
        self._number = 0

    def use(self, *lines: Line) -> None:
        """From the next request on, these."""
        self.lines = lines

    async def ask(self, path: str, body: dict[str, Any], timeout_s: float) -> Answer:
        """Raises Lost."""
        self._number += 1
        return await self.lines[self._number % len(self.lines)].ask(path, body, timeout_s)

    async def open(self, wait_s: float = 0.0) -> None:
        """Raises Lost."""
        for line in self.lines:
            await line.open(wait_s)

    async def close(self) -> None:
        for line in self.lines:
            await line.close()
