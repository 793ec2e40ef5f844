"""ministack, which plays one region of AWS: a process of its own in an environment of its own.

The environment is made when it is first needed; where ``MINISTACK_ENVIRONMENT`` names one (in an image), that is used.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "tests" / "requirements" / "ministack.txt"
ENVIRONMENT = ROOT / ".venvs" / "ministack"
START_S = 60.0
"""A start takes two seconds, and more on a busy machine."""


def environment() -> Path:
    """The directory of ministack's virtual environment, made first if it is missing or its requirements changed."""
    if given := os.environ.get("MINISTACK_ENVIRONMENT"):
        return Path(given)
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
