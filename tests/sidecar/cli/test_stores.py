"""``agentmemory stores`` as a process: probes, SIGTERM, SIGKILL, and bad passwords."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tests.sidecar.cli.conftest import Run

PROGRAM = str(Path(sys.executable).with_name("agentmemory"))
PASSWORD = "p" * 20


class Process:
    def __init__(self, directory: Path, secrets: Path, ports: tuple[int, int, int]) -> None:
        self.log = secrets / "log"
        self.probes = f"http://127.0.0.1:{ports[2]}"
        self.dsn = f"postgresql://memory:{PASSWORD}@127.0.0.1:{ports[1]}/memory"
        self._command = [
            PROGRAM, "stores", "--data", str(directory), "--secrets", str(secrets), "--host", "127.0.0.1",
            "--valkey-port", str(ports[0]), "--postgres-port", str(ports[1]), "--probes", f"127.0.0.1:{ports[2]}",
        ]  # fmt: skip
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        async with asyncio.timeout(180), aiohttp.ClientSession() as http:
            while True:
                assert self.process.returncode is None, self.log.read_text()
                try:
                    async with http.get(f"{self.probes}/readyz") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    async def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await self.process.wait()


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name in ("valkey-password", "postgres-password"):
        (tmp_path / name).write_text(PASSWORD)
    return tmp_path


@pytest.fixture
async def process(
    servers_directory: Path, secrets: Path, unused_tcp_port_factory: Callable[[], int], request: pytest.FixtureRequest
) -> AsyncIterator[Process]:
    directory = servers_directory / f"stores-{abs(hash(request.node.nodeid)):x}"
    made = Process(
        directory, secrets, (unused_tcp_port_factory(), unused_tcp_port_factory(), unused_tcp_port_factory())
    )
    await made.start()
    yield made
    if made.process is not None and made.process.returncode is None:
        await made.end(signal.SIGTERM)


async def test_what_was_written_is_there_after_a_kill_and_after_an_orderly_end(process: Process) -> None:
    connection = await asyncpg.connect(process.dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    await connection.close()
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 0)):
        assert await process.end(number) == code
        await process.start()
        connection = await asyncpg.connect(process.dsn)
        assert await connection.fetchval("SELECT n FROM kept") == 1
        await connection.close()
    assert "Traceback" not in process.log.read_text()


def test_missing_password_ends_it_and_is_named(secrets: Path, run: Run) -> None:
    (secrets / "valkey-password").unlink()
    complaint = run("stores", "--secrets", str(secrets), "--data", str(secrets / "data")).complaint
    assert "valkey-password cannot be read: No such file or directory. Put it into the Secret." in complaint
