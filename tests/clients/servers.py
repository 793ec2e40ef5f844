"""Servers of these tests that run in a process of their own: started on a free port, waited for, ended by pid."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.clients import setup

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 60
"""A server that takes longer to listen has failed."""


def fetched(url: str, posted: Any = None) -> Any:
    """The JSON at ``url``, after posting some there; raises ``urllib.error.HTTPError`` for an error status."""
    body = None if posted is None else json.dumps(posted).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


_ADDRESS = re.compile(r"\bon http://127\.0\.0\.1:(\d+)")
"""How each of them says that it takes connections."""


class ServerFailed(AssertionError):
    """A server did not start; the text has the end of its log."""


class Server:
    """One server process on ``self.port`` of 127.0.0.1. Subclasses give the command.

    The first start takes a free port (0) and reads which from what the server prints; later starts take the same, so
    that clients find it again. Its log is ``<name>.log`` in ``directory``.
    """

    name = "server"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def start(self) -> None:
        """Start it and return when it takes connections. Raises :class:`ServerFailed`."""
        begin = len(self.log.read_text()) if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=REPOSITORY,
                env=dict(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while (found := _ADDRESS.search(self.log.read_text(), begin)) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(f"{self.name} did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)
        self.port = int(found[1])

    def stop(self) -> None:
        """Ask it to end, as a supervisor would. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                raise ServerFailed(
                    f"{self.name} did not end on {number.name}:\n{self.log.read_text()[-3000:]}"
                ) from None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class Claude(Server):
    """The strict Claude, controlled over HTTP."""

    name = "claude"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.claude", "--port", str(self.port)]

    def script(self, *replies: Mapping[str, Any]) -> None:
        """Queue replies with the fields of ``tests.claude.Reply``; ``match.session`` says whom they are for."""
        fetched(f"{self.url}/__claude/script", {"replies": replies})

    def requests(self, session: str) -> list[dict[str, Any]]:
        """Every request of a session, as ``tests.claude.record.Recorded`` has them."""
        rows: list[dict[str, Any]] = fetched(f"{self.url}/__claude/requests?session={session}")["requests"]
        return rows


class Aimock(Server):
    """An independent stand-in for Claude, from npm. It answers from the fixtures file and knows nothing of ours."""

    name = "aimock"

    def __init__(self, directory: Path, fixtures: Path) -> None:
        super().__init__(directory)
        self.fixtures = fixtures

    def command(self) -> Sequence[str]:
        program = setup.environment("aimock") / "node_modules" / ".bin" / "llmock"
        return [str(program), "--strict", "--port", str(self.port), "--fixtures", str(self.fixtures)]

    def journal(self) -> list[dict[str, Any]]:
        """Every request it got: ``method``, ``path``, ``body`` (normalised), ``response``."""
        rows: list[dict[str, Any]] = fetched(f"{self.url}/__aimock/journal")
        return rows
