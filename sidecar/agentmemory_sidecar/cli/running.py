"""Finding a sidecar that runs on this machine: it leaves its address and its admin token in its data directory. In a pod it
has a unix socket instead."""

import http.client
import json
import os
import socket
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from agentmemory_sidecar.stores.embedded.files import default_directory

FILE = "sidecar.json"


@dataclass(frozen=True, slots=True)
class Running:
    """A sidecar on this machine. The file that says so is readable by its owner alone: it holds the token."""

    name: str
    url: str
    admin: str
    token: str
    pid: int

    @property
    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def data_home() -> Path:
    """Where data directories lie if none is given: ``$AGENTMEMORY_HOME``, or where embedded servers can reach it."""
    if home := os.environ.get("AGENTMEMORY_HOME"):
        return Path(home)
    return default_directory()


def data_dir(namespace: str, name: str) -> Path:
    return data_home() / f"{namespace}.{name}"


def announce(directory: Path, running: Running) -> None:
    """Leave the file, whole, for the owner alone."""
    handle, name = tempfile.mkstemp(dir=directory)
    with os.fdopen(handle, "w") as file:
        json.dump(asdict(running), file)
    Path(name).replace(directory / FILE)


def withdraw(directory: Path) -> None:
    (directory / FILE).unlink(missing_ok=True)


def read(directory: Path) -> Running | None:
    """The sidecar of this data directory, if it runs."""
    try:
        running = Running(**json.loads((directory / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return running if running.alive else None


def find(directory: Path | None) -> Running:
    """The one sidecar that is meant. Raises UsageError (exit 2) where there is none or more than one."""
    if directory is not None:
        running = read(directory)
        if running is None:
            raise click.UsageError(f"no sidecar runs on {directory}; start one with `agentmemory up -f FILE`")
        return running
    home = data_home()
    candidates = sorted(home.iterdir()) if home.is_dir() else []
    alive = [running for candidate in candidates if (running := read(candidate)) is not None]
    if not alive:
        raise click.UsageError("no sidecar runs on this machine; start one with `agentmemory up -f FILE`")
    if len(alive) > 1:
        names = ", ".join(running.name for running in alive)
        raise click.UsageError(f"several sidecars run here ({names}); say which with -f FILE or --data DIR")
    return alive[0]


def pod_socket() -> Path | None:
    """The admin socket of the sidecar in this pod, if we are in one: ``$AGENTMEMORY_ADMIN_SOCKET``, or where it is by
    default."""
    path = Path(os.environ.get("AGENTMEMORY_ADMIN_SOCKET") or "/run/agentmemory/admin.sock")
    return path if path.is_socket() else None


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))
