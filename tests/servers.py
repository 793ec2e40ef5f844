"""Real servers for tests, from wheels, on unix sockets and loopback. Each pytest process (xdist worker) has its own.

- ``valkey`` (session) and ``valkey_url`` (function: the same server, emptied first).
- ``postgres`` and ``postgres_dsn`` (session), ``database`` (function: the dsn of a fresh database in it), and
  :func:`fresh_database` for other scopes.
- ``killable_valkey`` and ``killable_postgres`` (function): factories of servers that a test may kill, pause, restart.

Session-scoped ones are shared: a test must not stop or pause them.
"""

import asyncio
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres
from agentmemory_sidecar.stores.embedded.process import EmbeddedServer
from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey

pytest_plugins = ["tests.sidecar.stores.hot_servers"]
"""More of them: a Valkey cluster, and Redis with TLS."""


@pytest.fixture(scope="session")
def servers_directory() -> Iterator[Path]:
    """A directory that the servers' account can enter too (pytest's own temporary ones are closed to it)."""
    directory = Path(tempfile.mkdtemp(prefix="agentmemory-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


# --------------------------------------------------------------------------------------------------------- sessions


@pytest.fixture(scope="session")
def valkey(servers_directory: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(servers_directory / "valkey")
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def valkey_url(valkey: EmbeddedValkey) -> str:
    """The URL of the session's Valkey, emptied."""
    async with Redis.from_url(valkey.url) as client:
        await client.flushall()
    return valkey.url


@pytest.fixture(scope="session")
def postgres_template(servers_directory: Path) -> Path:
    """A data directory that was initialised once: copying it is faster than `initdb`."""
    server = EmbeddedPostgres(servers_directory / "postgres-template")
    asyncio.run(server.start())
    asyncio.run(server.stop())
    return server.data


def _copy_template(template: Path, directory: Path) -> Path:
    directory.mkdir()
    directory.chmod(0o711)
    subprocess.run(["cp", "-a", template, directory / "data"], check=True)  # keeps the owner, which copytree does not
    return directory


@pytest.fixture(scope="session")
def postgres(servers_directory: Path, postgres_template: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(_copy_template(postgres_template, servers_directory / "postgres"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def postgres_dsn(postgres: EmbeddedPostgres) -> str:
    """The dsn of the session's Postgres; the database is shared, see ``database``."""
    return postgres.dsn


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[str]:
    """The dsn of a database made for this test."""
    async with fresh_database(postgres_dsn) as dsn:
        yield dsn


@asynccontextmanager
async def fresh_database(dsn: str) -> AsyncIterator[str]:
    """Make an empty database on the server of ``dsn``; yields its dsn and drops it with all its connections."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


# --------------------------------------------------------------------------------------------- servers to be abused


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Killable:
    """What a test may do to a server that is its own: to all of its processes, not only the first."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self._server.pid)
        return [first, *first.children(recursive=True)]

    def _signal(self, number: int) -> None:
        for process in self._processes():
            process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL; returns when they are gone."""
        processes = self._processes()
        for process in processes:
            process.kill()
        while self._server.running or any(map(_alive, processes)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and are not answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Stop it if it runs, and start it on the same directory at the same address."""
        if self._server.running:
            self._signal(signal.SIGCONT)
            self._server.signal_stop()
            while self._server.running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await self._server.start()

    async def close(self) -> None:
        if self._server.running:
            self.resume()
        await self._server.stop()


class KillableValkey(Killable):
    def __init__(self, server: EmbeddedValkey) -> None:
        super().__init__(server)
        self.server = server

    @property
    def url(self) -> str:
        return self.server.url


class KillablePostgres(Killable):
    def __init__(self, server: EmbeddedPostgres) -> None:
        super().__init__(server)
        self.server = server

    @property
    def dsn(self) -> str:
        return self.server.dsn


@asynccontextmanager
async def killable_valkeys(directory: Path) -> AsyncIterator[Callable[[], Awaitable[KillableValkey]]]:
    started: list[Killable] = []

    async def make() -> KillableValkey:
        server = KillableValkey(EmbeddedValkey(directory / f"valkey-{uuid.uuid4().hex[:8]}"))
        started.append(server)
        await server.server.start()
        return server

    try:
        yield make
    finally:
        for each in started:
            await each.close()


@pytest.fixture
async def killable_valkey(servers_directory: Path) -> AsyncIterator[Callable[[], Awaitable[KillableValkey]]]:
    """``server = await killable_valkey()``: as many as the test needs, each on a directory of its own."""
    async with killable_valkeys(servers_directory) as make:
        yield make


@pytest.fixture
async def killable_postgres(
    servers_directory: Path, postgres_template: Path
) -> AsyncIterator[Callable[[], Awaitable[KillablePostgres]]]:
    """``server = await killable_postgres()``, likewise."""
    started: list[Killable] = []

    async def make() -> KillablePostgres:
        directory = _copy_template(postgres_template, servers_directory / f"postgres-{uuid.uuid4().hex[:8]}")
        server = KillablePostgres(EmbeddedPostgres(directory))
        started.append(server)
        await server.server.start()
        return server

    yield make
    for each in started:
        await each.close()
