"""The embedded servers as a pod serves them: who gets in, as what, and what survives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from agentmemory_sidecar.stores.embedded.files import EmbeddedError, FileLock
from agentmemory_sidecar.stores.embedded.served import Passwords, ServedStores
from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey
from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresStateStore, migrate
from agentmemory_sidecar.stores.protocols import Begun, Claim, StoreUnavailable
from agentmemory_sidecar.stores.redis import RedisHotStore, RedisOptions
from tests.sidecar.stores.conformance.state import create, fresh

PASSWORDS = Passwords("valkey_" + "v" * 16, "postgres-" + "p" * 16)


class Served:
    def __init__(self, directory: Path, ports: tuple[int, int], passwords: Passwords = PASSWORDS) -> None:
        self.directory, self.ports, self.passwords = directory, ports, passwords
        self.stores = ServedStores(directory, passwords, valkey_port=ports[0], postgres_port=ports[1], host="127.0.0.1")

    @property
    def dsn(self) -> str:
        return f"postgresql://memory:{self.passwords.postgres}@127.0.0.1:{self.ports[1]}/memory"

    def redis(self, user: str = "agentmemory", password: str = "") -> "Redis":
        password = password or self.passwords.valkey
        return Redis(host="127.0.0.1", port=self.ports[0], username=user, password=password)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(
    servers_directory: Path, unused_tcp_port_factory: Callable[[], int], request: pytest.FixtureRequest
) -> AsyncIterator[Serve]:
    """``served = await serve()``; again with ``serve(served)`` on the same directory."""
    directory = servers_directory / f"served-{abs(hash(request.node.nodeid)):x}"
    directory.mkdir()
    directory.chmod(0o777)
    running: list[Served] = []

    async def make(former: Served | None = None, passwords: Passwords = PASSWORDS) -> Served:
        ports = former.ports if former else (unused_tcp_port_factory(), unused_tcp_port_factory())
        served = Served(directory, ports, passwords)
        running.append(served)
        await served.stores.start()
        return served

    yield make
    for served in running:
        await served.stores.stop()


async def test_sidecars_stores_work_with_what_they_are_given(serve: Serve) -> None:
    served = await serve()
    await migrate(served.dsn)
    state = PostgresStateStore(PostgresOptions(served.dsn))
    hot = RedisHotStore(
        RedisOptions(urls=(f"redis://127.0.0.1:{served.ports[0]}",), username="agentmemory", password=PASSWORDS.valkey)
    )
    talk = fresh()
    await create(state, talk)
    assert isinstance(await hot.begin(talk, Claim("pod:step:hash", "hash")), Begun)
    await hot.ping()
    await state.close()
    await hot.close()


async def test_nobody_gets_in_without_the_password_or_as_administrator(serve: Serve) -> None:
    served = await serve()
    for user, password in (("agentmemory", "wrong-password-of-it"), ("default", PASSWORDS.valkey)):
        async with served.redis(user, password) as client:
            with pytest.raises(AuthenticationError):
                await client.ping()
    async with served.redis() as client:
        for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("KEYS", "*"), ("SHUTDOWN",)):
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command)  # type: ignore[no-untyped-call]
    for dsn in (
        served.dsn.replace(PASSWORDS.postgres, "wrong"),
        served.dsn.replace(f":{PASSWORDS.postgres}", ""),
        served.dsn.replace("/memory", "/postgres"),
        served.dsn.replace("//memory:", "//agentmemory:"),
    ):
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)):
            await asyncpg.connect(dsn)
    connection = await asyncpg.connect(served.dsn)
    assert await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    for forbidden in ("COPY (SELECT 1) TO PROGRAM 'true'", "SELECT rolpassword FROM pg_authid"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(forbidden)
    await connection.close()


async def test_passwords_of_the_next_start_are_the_new_ones(serve: Serve) -> None:
    served = await serve()
    await served.stores.stop()
    again = await serve(served, Passwords("valkey_" + "w" * 16, "postgres-" + "q" * 16))
    connection = await asyncpg.connect(again.dsn)
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(served.dsn)
    async with again.redis() as client:
        assert await client.ping()


async def test_killed_servers_come_back_with_their_data_and_the_same_login(serve: Serve) -> None:
    served = await serve()
    connection = await asyncpg.connect(served.dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    await connection.close()
    async with served.redis() as client:
        await client.set("kept", "1")
        assert await client.waitaof(1, 0, 0) == [1, 0]
    async with asyncio.TaskGroup() as group:
        keeping = [group.create_task(server.keep(0.01)) for server in served.stores.servers]
        for server in served.stores.servers:
            former = server.pid
            psutil.Process(former).kill()
            async with asyncio.timeout(60):
                while server.pid == former or not await _answers(server.ping):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        for task in keeping:
            task.cancel()
    connection = await asyncpg.connect(served.dsn)
    assert await connection.fetchval("SELECT n FROM kept") == 1
    await connection.close()
    async with served.redis() as client:
        assert await client.get("kept") == b"1"


async def _answers(ping: Callable[[], Awaitable[None]]) -> bool:
    try:
        await ping()
    except StoreUnavailable:
        return False
    return True


async def test_files_of_a_killed_pod_stop_nothing(serve: Serve, valkey: EmbeddedValkey) -> None:
    """In the next container the same numbers are other processes, which live, of the same account: here another Valkey."""
    served = await serve()
    await served.stores.stop()
    pid = valkey.pid
    run = served.directory / "postgres" / "run"
    lines = f"{pid}\n{served.directory}/postgres/data/cluster\n1\n{served.ports[1]}\n{run}\n127.0.0.1\n0 0\nready\n"
    (served.directory / "postgres/data/cluster/postmaster.pid").write_text(lines)
    (run / f".s.PGSQL.{served.ports[1]}.lock").write_text(lines)
    for name in ("valkey", "postgres"):
        (served.directory / name / "server.lock").write_text(f"{pid} pid:[1]\n")
    again = await serve(served)
    connection = await asyncpg.connect(again.dsn)
    await connection.close()
    assert valkey.running


def test_pid_of_another_container_is_nobodys(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    own = (tmp_path / "lock").read_text().split()
    assert lock.pid() == psutil.Process().pid == int(own[0])
    (tmp_path / "lock").write_text(f"{own[0]} pid:[1]\n")
    assert lock.pid() == 0
    (tmp_path / "lock").write_text(f"{own[0]}\n")  # as an earlier release wrote it
    assert lock.pid() == int(own[0])
    lock.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "postgres-password cannot be read: No such file or directory. Put it into the Secret."),
        ("short", "postgres-password must be 16 to 128 letters, digits, - or _."),
        ("with-a-quote'-in-it-somewhere", "postgres-password must be"),
        ("x" * 129, "postgres-password must be"),
    ],
)
def test_password_that_cannot_be_used_is_named_and_not_quoted(tmp_path: Path, text: str | None, says: str) -> None:
    (tmp_path / "valkey-password").write_text(PASSWORDS.valkey + "\n")
    if text is not None:
        (tmp_path / "postgres-password").write_text(text)
    with pytest.raises(EmbeddedError) as caught:
        Passwords.read(tmp_path)
    assert says in str(caught.value)
    assert text is None or text not in str(caught.value)


def test_passwords_are_read_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "valkey-password").write_text(PASSWORDS.valkey + "\n")
    (tmp_path / "postgres-password").write_text(PASSWORDS.postgres)
    assert Passwords.read(tmp_path) == PASSWORDS
    assert PASSWORDS.valkey not in repr(PASSWORDS)
