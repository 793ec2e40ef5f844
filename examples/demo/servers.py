"""The processes of the demonstration, each started in its own session so that Ctrl-C reaches only the one that ends them."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from agentmemory_sidecar.stores.embedded.files import default_directory

CHECKOUT = Path(__file__).resolve().parents[2]
RESOURCE = Path("examples/quickstart.yaml")
HOST, PORT = "127.0.0.1", 8377
READY_S = 120.0
"""A first start makes a database, on a slow machine."""
PROGRAM = Path(sys.executable).with_name("agentmemory")


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


def data_directory() -> Path:
    """``.agentmemory/demo`` in the checkout. Under root its servers run as another user, who must be able to enter it."""
    wanted = CHECKOUT / ".agentmemory" / "demo"
    if os.geteuid() == 0 and not all(parent.stat().st_mode & stat.S_IXOTH for parent in CHECKOUT.parents):
        wanted = default_directory() / "demo"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"the data directory {wanted} cannot be made: {error.strerror}") from error
    return wanted


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_to_serve() -> tuple[int, bool]:
    """The port to serve on, and whether it is the usual one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, PORT))
        except OSError:
            return free_port(), False
    return PORT, True


class Server:
    """A process with a log; left by SIGTERM."""

    name = ""

    def __init__(self, directory: Path) -> None:
        self.log = directory / f"{self.name}.log"
        self.started_in = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        began = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                self.command(), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while not self.ready():
            if self._process.poll() is not None:
                last = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["it wrote nothing"]
                raise DemoError(f"the {self.name} did not start: {last[0]} (log: {self.log})")
            if time.monotonic() - began > READY_S:
                raise DemoError(f"the {self.name} was not ready after {READY_S:.0f} s (log: {self.log})")
            time.sleep(0.05)
        self.started_in = time.monotonic() - began

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise DemoError(f"the {self.name} is not running")
        return self._process

    def wait(self, seconds: float) -> int | None:
        """The exit code once it has ended; None while it runs."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


class Claude(Server):
    """The strict stand-in for Claude that the tests use."""

    name = "claude"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.claude"]

    def ready(self) -> bool:
        return bool(self.url)

    @property
    def url(self) -> str:
        for line in self.log.read_text().splitlines():
            if line.startswith("strict Claude on "):
                return line.split()[-1]
        return ""

    def script(self, replies: Sequence[dict[str, Any]]) -> None:
        """Queue replies, as the stand-in's README describes them."""
        body = json.dumps({"replies": replies}).encode()
        request = urllib.request.Request(f"{self.url}/__claude/script", body, {"content-type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - our own server
            pass


class Sidecar(Server):
    """``agentmemory up`` on the quickstart resource, as a user starts it."""

    name = "sidecar"

    def __init__(self, directory: Path, port: int, upstream: str) -> None:
        super().__init__(directory)
        self.directory, self.port, self._upstream = directory, port, upstream

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        listen = ["--listen", f"{HOST}:{self.port}", "--data", str(self.directory / "data")]
        return [
            str(PROGRAM),
            "up",
            "-f",
            str(RESOURCE),
            *listen,
            *(["--upstream", self._upstream] * bool(self._upstream)),
        ]

    def ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> list[tuple[str, int]]:
        """SIGKILL for Valkey, then for the sidecar, so that nothing is flushed or released; returns whom it hit."""
        sidecar = psutil.Process(self.process.pid)
        valkey = [child for child in sidecar.children(recursive=True) if "valkey" in child.name()]
        if not valkey:
            raise DemoError("the sidecar has no Valkey to kill")
        for process in (*valkey, sidecar):
            process.kill()
        self.process.wait()
        psutil.wait_procs(valkey, timeout=10)
        return [("Valkey", process.pid) for process in valkey] + [("sidecar", sidecar.pid)]

    def state(self, session: str) -> dict[str, Any]:
        """The session's state, as ``agentmemory session show`` has it."""
        state: dict[str, Any] = self._session("show", session)["state"]
        return state

    def injected(self, session: str) -> list[str]:
        """What the newest step put into the prompt, as the archive has it."""
        steps = [record for record in self._session("history", session) if record["kind"] == "step"]
        texts: list[str] = steps[-1]["payload"]["injected"].get("texts", []) if steps else []
        return texts

    def _session(self, what: str, session: str) -> Any:
        command = [str(PROGRAM), "session", what, session, "--data", str(self.directory / "data"), "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
        if done.returncode != 0:
            raise DemoError(f"`agentmemory session {what}` ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)
