"""``agentmemory sidecar`` as a process: started without a configuration, given one, killed, and told to stop."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.sidecar.agents import Agent
from tests.sidecar.cli.conftest import Run
from tests.sidecar.conftest import Configure
from tests.sidecar.pod.conftest import secret
from tests.sidecar.pod.mount import Mount

PROGRAM = str(Path(sys.executable).with_name("agentmemory"))


class Process:
    def __init__(self, directory: Path, port: int, probes: int) -> None:
        self.mount = Mount(directory / "config")
        self.socket, self.log = directory / "admin.sock", directory / "log"
        self.url, self.probes = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{probes}"
        self._command = [
            PROGRAM, "sidecar", "--config-dir", str(self.mount.directory), "--listen", f"127.0.0.1:{port}",
            "--probes", f"127.0.0.1:{probes}", "--admin-socket", str(self.socket), "--ready-after", "0",
        ]  # fmt: skip
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, resource: str = "") -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        await self.ready(resource)

    async def ready(self, resource: str) -> None:
        """Wait until it serves this resource (empty: until it listens)."""
        async with asyncio.timeout(120), aiohttp.ClientSession() as http:
            while True:
                assert self.process is not None
                assert self.process.returncode is None, self.log.read_text()
                try:
                    async with http.get(f"{self.probes}/readyz") as answer:
                        if (await answer.json())["resource"] == resource:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await self.process.wait()


@pytest.fixture
async def process(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> AsyncIterator[Process]:
    made = Process(tmp_path, unused_tcp_port_factory(), unused_tcp_port_factory())
    await made.start()
    yield made
    if made.process is not None and made.process.returncode is None:
        await made.end(signal.SIGKILL)


async def test_it_takes_its_configuration_up_and_survives_a_kill_and_ends_in_order(
    process: Process, configure: Configure, connect: Callable[..., Agent]
) -> None:
    agent = connect(process)
    assert (await agent.send(messages=[{"role": "user", "content": "Go."}])).code == "memory_not_configured"
    process.mount.write(secret(configure()))
    await process.ready("test")
    assert (await agent.good("Go.")).commit == "committed"
    await process.end(signal.SIGKILL)
    assert process.socket.exists()
    await process.start("test")
    assert (await agent.good("Go on.")).receipt["turn"] == "2"
    assert await process.end(signal.SIGTERM) == 0
    assert not process.socket.exists()
    log = process.log.read_text()
    assert "configuration of AgentMemory test in use: generation 1, region local" in log
    assert "Traceback" not in log


async def test_sessions_are_looked_at_from_within_the_pod(
    process: Process, configure: Configure, connect: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    process.mount.write(secret(configure()))
    await process.ready("test")
    agent = connect(process)
    await agent.good("Go.")
    monkeypatch.setenv("AGENTMEMORY_ADMIN_SOCKET", str(process.socket))
    listed = await asyncio.to_thread(run, "session", "list", "-o", "json")
    history = await asyncio.to_thread(run, "session", "history", agent.session, "-o", "json")
    unknown = await asyncio.to_thread(run, "session", "show", "nobody")

    assert [row["session"] for row in json.loads(listed.out)] == [agent.session]
    assert [row["kind"] for row in json.loads(history.out)] == ["step"]
    assert unknown.complaint == "There is no such session."


async def test_port_that_is_taken_ends_it(process: Process, tmp_path: Path, run: Run) -> None:
    port = process.url.rpartition(":")[2]
    ran = await asyncio.to_thread(
        run,
        "sidecar",
        "--listen",
        f"127.0.0.1:{port}",
        "--probes",
        "127.0.0.1:0",
        "--admin-socket",
        str(tmp_path / "b"),
    )
    assert ran.code == 1
    assert "agentmemory: cannot listen: " in ran.err


@pytest.mark.parametrize("option", ["--listen", "--probes"])
def test_address_that_is_none_is_named(option: str, refused: Run) -> None:
    assert f"{option} must be HOST:PORT" in refused("sidecar", option, "here:there").complaint
