"""A server process of ours: started without privileges, waited for, stopped, and taken over from a killed parent."""

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from agentmemory_sidecar.stores.embedded.files import (
    EmbeddedError,
    FileLock,
    prepare_directory,
    unprivileged_account,
)
from agentmemory_sidecar.stores.protocols import StoreUnavailable

log = logging.getLogger(__name__)

POLL_S = 0.02
LEAVING_S = 1.0
"""How long the owner of a directory may take to leave it: a killed process holds its locks until it is torn down."""
LOG_LIMIT = 1 << 20
"""Bytes after which a server's log is set aside at the next start."""


def _die_with_parent(number: int) -> Callable[[], None] | None:
    """What a child runs before exec so that it gets signal ``number`` when the thread that started it ends (Linux).

    Elsewhere None: a server left over is then stopped by the next start.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(1, number, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # the parent died before that took effect
            os._exit(1)

    return in_child


class EmbeddedServer(ABC):
    """One server on one directory. Subclasses say how it is prepared, started and asked whether it is ready.

    Layout of the directory: ``lock`` (held by the process that runs the server), ``server.lock`` (held by the server
    itself), ``server.log``, ``data/`` and ``run/`` (the server's own).

    :param directory: made when missing; only this server's files lie there.
    :param tied: end the server when this process dies in any way (Linux; start it from a thread that lives as long).
        Otherwise a server that outlives a killed parent is stopped by the next start on the directory.
    """

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path | str, *, tied: bool = True) -> None:
        self.directory = Path(directory)
        self.account = unprivileged_account()
        self.tied = tied
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: FileLock | None = None

    # ------------------------------------------------------------------------------------------ what subclasses give

    @abstractmethod
    async def _prepare(self) -> None:
        """Whatever must be done before each start; the directory is ours and no other server works on it."""

    @abstractmethod
    def _command(self) -> tuple[Sequence[str | Path], bytes]:
        """The command line, and what the server reads from standard input."""

    @abstractmethod
    async def _ready(self) -> bool:
        """Whether the server takes commands."""

    # ----------------------------------------------------------------------------------------------- what users call

    @property
    def pid(self) -> int:
        """The running server's process id."""
        if self._process is None:
            raise EmbeddedError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    async def start(self, timeout_s: float = 60) -> None:
        """Start the server and wait until it is ready. Raises :class:`EmbeddedError`."""
        if self.running:
            return
        self.directory = prepare_directory(self.directory, self.account)
        if self._lock is None:
            self._lock = await self._own()
        try:
            await self._start(timeout_s)
        except BaseException:
            await self.stop()
            raise

    async def _own(self) -> FileLock:
        lock = FileLock(self.directory / "lock")
        deadline = time.monotonic() + LEAVING_S
        while not lock.acquire():
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.directory} is in use by process {lock.pid() or 'unknown'}. "
                    "Stop that `agentmemory`, or give this one a data directory of its own."
                )
            await asyncio.sleep(POLL_S)
        return lock

    async def _start(self, timeout_s: float) -> None:
        inherited = await self._take_over(timeout_s)
        try:
            await self._prepare()
            command, typed = self._command()
            self._process = self.spawn(command, typed, inherited)
        finally:
            inherited.close()
        deadline = time.monotonic() + timeout_s
        while not await self._ready():
            code = self._process.poll()
            if code is not None:
                raise EmbeddedError(f"{self.name} ended with code {code} while starting. {self.last_lines()}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{self.name} was not ready after {timeout_s:g} s. {self.last_lines()}")
            await asyncio.sleep(POLL_S)

    async def stop(self, timeout_s: float = 20) -> None:
        """Stop the server in its orderly way, and kill it if that takes longer than ``timeout_s``. Idempotent."""
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                self._ask_to_stop(process)
                deadline = time.monotonic() + timeout_s
                while process.poll() is None:
                    if time.monotonic() > deadline:
                        process.kill()
                    await asyncio.sleep(POLL_S)
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the server runs and takes commands."""
        if not self.running or not await self._ready():
            raise StoreUnavailable(self.name.lower(), "not running, or still starting", definite=True)

    def signal_stop(self) -> None:
        """Ask the server to end, and leave the directory ours; :meth:`start` starts it again at the same address."""
        if self._process is not None:
            self._ask_to_stop(self._process)

    def _ask_to_stop(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(self.stop_signal)
        process.send_signal(signal.SIGCONT)  # a paused one could not hear it

    async def keep(self, every_s: float = 0.5, on_restart: Callable[[int], None] | None = None) -> None:
        """Run until cancelled: start the server again whenever it has ended by itself.

        :param on_restart: told the exit code each time.
        """
        wait = every_s
        while True:
            await asyncio.sleep(wait)
            if self._process is None or (code := self._process.poll()) is None:
                wait = every_s
                continue
            log.warning("%s ended with code %d and is started again", self.name, code)
            if on_restart is not None:
                on_restart(code)
            try:
                await self._start(60)
                wait = every_s
            except EmbeddedError as error:
                wait = min(wait * 2, 30.0)
                log.error("%s cannot be started again, next try in %.0f s: %s", self.name, wait, error)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def last_lines(self, count: int = 15) -> str:
        """The end of the server's log, for an error's text."""
        try:
            text = self.log.read_bytes()[-8192:].decode("utf-8", "replace")
        except OSError:
            text = ""
        lines = text.strip().splitlines()[-count:]
        return (
            f"Last lines of {self.log}:\n" + "\n".join(f"  {line}" for line in lines) if lines else "Its log is empty."
        )

    # ----------------------------------------------------------------------------------------------------- processes

    def spawn(
        self, command: Sequence[str | Path], typed: bytes = b"", inherited: FileLock | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program as the unprivileged account, its output in the log, a session of its own (no Ctrl-C)."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        account = self.account
        try:
            process = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                cwd=self.data,
                stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,
                pass_fds=(inherited.fd,) if inherited else (),
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=() if account else None,
                umask=0o077,
                preexec_fn=_die_with_parent(self.stop_signal) if self.tied else None,
            )
        except OSError as error:
            raise EmbeddedError(f"{command[0]} cannot be started: {error.strerror}") from error
        finally:
            os.close(log)
        if inherited is not None:
            inherited.write(process.pid)
        if typed:
            assert process.stdin is not None
            try:
                with process.stdin as pipe:
                    pipe.write(typed)
            except BrokenPipeError:
                pass  # it ended at once; whoever waits for it reports that with its log
        return process

    async def run(self, command: Sequence[str | Path], timeout_s: float = 120) -> None:
        """Run a program of the server's to its end. Raises :class:`EmbeddedError` with its last lines."""
        process = self.spawn(command)
        deadline = time.monotonic() + timeout_s
        try:
            while (code := process.poll()) is None and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if code != 0:
            raise EmbeddedError(f"{command[0]} ended with code {code}. {self.last_lines()}")

    async def _take_over(self, timeout_s: float) -> FileLock:
        """Stop what an earlier parent left running on the directory; returns the lock that the new server inherits."""
        lock = FileLock(self.directory / "server.lock")
        deadline = time.monotonic() + timeout_s
        asked = killed = False
        while not lock.acquire():
            pid = lock.pid()
            if not asked:
                self._signal_leader(pid, self.stop_signal)
                asked = True
            elif not killed and time.monotonic() > deadline - timeout_s / 2:
                self._signal_leader(pid, signal.SIGKILL)
                killed = True
            elif time.monotonic() > deadline:
                raise EmbeddedError(
                    f"A {self.name} of an earlier run still works on {self.directory} and does not end "
                    + (f"(process {pid}). End it with `kill -9 {pid}`" if pid else "(in another container). End that")
                    + " and start again."
                )
            await asyncio.sleep(POLL_S)
        return lock

    def _signal_leader(self, pid: int, number: int) -> None:
        """Signal the server that holds ``server.lock``. It leads its session; a process that got its number later
        hardly does, and is left alone."""
        try:
            if pid > 1 and os.getsid(pid) == pid:
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
        except PermissionError as error:
            raise EmbeddedError(
                f"A {self.name} of another user still works on {self.directory} (process {pid}). "
                f"End it as that user, or choose another data directory."
            ) from error
