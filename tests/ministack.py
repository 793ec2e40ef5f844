"""ministack, the AWS stand-in: a process of its own in an environment of its own.

- ``ministack`` (session): one server for each pytest process (xdist worker). Shared: a test must not stop or pause it,
  and takes a table or bucket of its own instead of resetting it.
- ``killable_ministack`` (function): a factory of servers that a test may kill, pause and restart. Nothing survives the
  end of such a process.
- ``aws_credentials`` (session): what the stand-in accepts, in this process's environment.

``python -m tests.ministack`` makes the environment ahead of time.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REQUIREMENTS = Path(__file__).parent / "requirements" / "ministack.txt"
ENVIRONMENT = ROOT / ".venvs" / "ministack"
START_S = 60.0
"""A start takes two seconds, and more on a busy machine."""

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def environment() -> Path:
    """The directory of ministack's virtual environment, made first if it is missing or its requirements changed."""
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with (ENVIRONMENT.parent / "ministack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # xdist workers all come here at once
        stamp = ENVIRONMENT / "requirements.txt"
        if not stamp.exists() or stamp.read_bytes() != REQUIREMENTS.read_bytes():
            shutil.rmtree(ENVIRONMENT, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
            subprocess.run([ENVIRONMENT / "bin" / "python", *install], check=True)
            shutil.copy(REQUIREMENTS, stamp)
    return ENVIRONMENT


class Ministack:
    """One server process on loopback: DynamoDB with streams, S3, STS and IAM, for every region, in memory only."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        """``directory`` is its own, for its log and temporary files; port 0 takes a free one."""
        self.directory = directory
        self.port = port or _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "BIND_HOST": self.host,  # its default is every interface
            "GATEWAY_PORT": str(self.port),
            "TMPDIR": str(self.directory),
            "SERVICES": "dynamodb,dynamodbstreams,s3,sts,iam",
            "DOCKER_HOST": "unix:///nonexistent",  # it would look for containers of its own to remove
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
        }
        with (self.directory / "ministack.log").open("ab") as log:
            self._process = subprocess.Popen(
                [environment() / "bin" / "ministack"],
                cwd=self.directory,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        ends = time.monotonic() + START_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > ends:
                self.kill()
                raise RuntimeError(f"ministack did not start: {(self.directory / 'ministack.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def reset(self) -> None:
        """Forget every table and bucket."""
        with closing(HTTPConnection(self.host, self.port, timeout=START_S)) as connection:
            connection.request("POST", "/_ministack/reset")
            answer = connection.getresponse().read()
        assert json.loads(answer) == {"reset": "ok"}, answer

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. Its data are gone too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and are not answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start it again at the same address, empty."""
        self.kill()
        self.start()

    def _healthy(self) -> bool:
        try:
            with closing(HTTPConnection(self.host, self.port, timeout=5)) as connection:
                connection.request("GET", "/_ministack/health")
                return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((Ministack.host, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def aws_credentials() -> Iterator[None]:
    """Credentials in the environment, and nothing of the user's own AWS configuration."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def ministack_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="agentmemory-ministack-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def ministack(aws_credentials: None, ministack_directory: Path) -> Iterator[Ministack]:
    server = Ministack(ministack_directory / "shared")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def killable_ministack(
    aws_credentials: None, ministack_directory: Path
) -> AsyncIterator[Callable[[], Awaitable[Ministack]]]:
    """``server = await killable_ministack()``: as many as the test needs."""
    started: list[Ministack] = []

    async def make() -> Ministack:
        server = Ministack(ministack_directory / f"own-{len(started)}-{time.monotonic_ns()}")
        started.append(server)
        await asyncio.to_thread(server.start)
        return server

    yield make
    for server in started:
        server.kill()


if __name__ == "__main__":
    print(environment())
