"""ministack, the AWS stand-in: a process of its own in an environment of its own.

- ``ministack`` (session): one server for each pytest process (xdist worker). Shared: a test must not stop or pause it,
  and takes a table or bucket of its own instead of resetting it.
- ``killable_ministack`` (function): a factory of servers that a test may kill, pause and restart. Nothing survives the
  end of such a process.
- ``aws_credentials`` (session): what the stand-in accepts, in this process's environment.

``python -m tests.ministack`` makes the environment ahead of time.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.aws.process import Ministack, environment

__all__ = ["Ministack", "environment"]

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


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
