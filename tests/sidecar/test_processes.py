"""Real sidecars in processes of their own, killed and stopped by signals, on stores that outlive them."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml
from redis.asyncio import Redis

from agentmemory_sidecar.cli.running import Running
from agentmemory_sidecar.stores.postgres import PostgresOptions, migrate
from tests.claude import Reply, StrictClaude
from tests.faults import FaultProxy
from tests.servers import KillablePostgres, KillableValkey
from tests.sidecar.agents import Answer, unharmed
from tests.sidecar.faults.agent import Agent, Attempt, Outcome
from tests.sidecar.faults.driving import BUSY

ROOT = Path(__file__).parents[2]
SESSION = "processes"
LOCK = "lock:sess:{tests/processes}"
START_S = 60.0


class Process:
    """One ``agentmemory up``; ``data`` and the stores outlive it."""

    def __init__(self, directory: Path, resource: dict[str, object], claude: StrictClaude, data: Path) -> None:
        self.data, self._log = data, directory / "sidecar.log"
        file = directory / "agentmemory.yaml"
        file.write_text(yaml.safe_dump(resource))
        program = str(Path(sys.executable).with_name("agentmemory"))
        self._command = [
            program, "up", "-f", str(file), "--listen", "127.0.0.1:0", "--upstream", claude.url, "--data", str(data),
        ]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> "Process":
        (self.data / "sidecar.json").unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, cwd=ROOT, stdout=log, stderr=log)
        async with asyncio.timeout(START_S):
            while not (self.data / "sidecar.json").exists():
                assert self._process.returncode is None, self._log.read_text()[-3000:]
                await asyncio.sleep(0.02)
        self.url = Running(**json.loads((self.data / "sidecar.json").read_text())).url
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        assert self._process is not None
        async with asyncio.timeout(60):
            return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()


class Place:
    """The stores and the processes of one test."""

    def __init__(
        self, directory: Path, valkey: KillableValkey, postgres: KillablePostgres, claude: StrictClaude
    ) -> None:
        self._directory, self._claude = directory, claude
        self.valkey, self.postgres = valkey, postgres
        self.tcp = FaultProxy(Path(urlsplit(valkey.url).path))
        self.redis = Redis.from_url(valkey.url)
        self.http = aiohttp.ClientSession()
        self.processes: list[Process] = []

    def resource(self) -> dict[str, object]:
        redis = {"urls": [f"redis://127.0.0.1:{self.tcp.port}"], "password": self.valkey.server.password}
        return {
            "apiVersion": "agentmemory.io/v1alpha1",
            "kind": "AgentMemory",
            "metadata": {"name": "processes", "namespace": "tests"},
            "spec": {
                "ephemeral": {"redis": {"external": redis}, "timeout": "5s"},
                "state": {"postgres": {"dsn": self.postgres.dsn}},
                "archive": {"postgres": {"dsn": self.postgres.dsn}},
                "session": {"identity": {"headers": ["X-Agent-Session"]}, "lock": {"ttl": "10s"}},
            },
        }

    async def sidecar(self) -> Process:
        """One more, with the same subjects' keys as the others."""
        number = len(self.processes)
        directory = self._directory / str(number)
        (directory / "data").mkdir(parents=True)
        if number:
            (directory / "data" / "keys").symlink_to(self.processes[0].data / "keys")
        else:
            (directory / "data" / "keys").mkdir()
        process = Process(directory, self.resource(), self._claude, directory / "data")
        self.processes.append(process)
        return await process.start()

    def agent(self) -> Agent:
        return Agent(self.http, SESSION)

    async def lock(self) -> str:
        """Who holds the session's lock; empty for nobody."""
        holder = await self.redis.get(LOCK)
        return holder.decode() if isinstance(holder, bytes) else ""

    async def close(self) -> None:
        for process in self.processes:
            await process.kill()
        await self.http.close()
        await self.redis.aclose()


@pytest.fixture
async def place(
    tmp_path: Path,
    killable_valkey: Callable[[], Awaitable[KillableValkey]],
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
    claude: StrictClaude,
) -> AsyncIterator[Place]:
    valkey, postgres = await killable_valkey(), await killable_postgres()
    await migrate(PostgresOptions(postgres.dsn))
    place = Place(tmp_path, valkey, postgres, claude)
    async with place.tcp:
        yield place
        await place.close()


@asynccontextmanager
async def sending(agent: Agent, url: str, fault: str) -> AsyncIterator["asyncio.Task[Attempt]"]:
    async with asyncio.TaskGroup() as group:
        yield group.create_task(agent.send(url, fault=fault))


async def holds(place: Place) -> str:
    async with asyncio.timeout(START_S):
        while not (holder := await place.lock()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return holder


async def test_session_of_a_killed_holder_is_free_within_its_ttl(place: Place, claude: StrictClaude) -> None:
    first, second = await place.sidecar(), await place.sidecar()
    agent, other = place.agent(), place.agent()
    agent.ask("Are you there?")
    other.ask("And you?")
    async with sending(agent, first.url, "hang") as attempt:
        holder = await holds(place)
        assert (await other.send(second.url)).code == BUSY
        await first.kill()
    assert attempt.result().outcome is Outcome.UNKNOWN
    assert await place.lock() == holder
    assert 0 < await place.redis.pttl(LOCK) <= 10_000
    await place.redis.pexpire(LOCK, 300)  # the rest of its time, in short
    while (answered := await other.send(second.url)).code == BUSY:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert answered.acknowledged


async def test_same_request_takes_a_killed_holders_lock_over(place: Place, claude: StrictClaude) -> None:
    first, second = await place.sidecar(), await place.sidecar()
    agent, other = place.agent(), place.agent()
    agent.ask("Are you there?")
    other.ask("And you?")
    async with sending(agent, first.url, "hang"):
        await holds(place)
        await first.kill()
    assert (await agent.send(second.url)).code == BUSY, "its holder had not missed a renewal"
    # A renewal is missed when less than two thirds of the time, and 5 s of tolerance, are left.
    await place.redis.pexpire(LOCK, 1_500)
    assert (await other.send(second.url)).code == BUSY, "only the same request may take over"
    assert (await agent.send(second.url)).acknowledged
    assert await place.lock() == ""


async def test_sigterm_drains_a_stream_and_releases_its_lock(place: Place, claude: StrictClaude) -> None:
    sidecar = await place.sidecar()
    agent = place.agent()
    agent.ask("Tell me. [[say: It is a long story, and it is told to its end, whatever happens meanwhile.]]")
    async with sending(agent, sidecar.url, "slow_events ms=150") as attempt:
        await claude.received(1)
        sidecar.signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        late = place.agent()
        late.ask("Too late?")
        refused = await late.send(sidecar.url)
        assert refused.outcome is not Outcome.ACKNOWLEDGED
    assert attempt.result().acknowledged
    assert await sidecar.ended() == 0
    assert await place.lock() == ""
    again = await place.sidecar()
    agent.take(attempt.result())
    agent.ask("Go on?")
    assert (await agent.send(again.url)).acknowledged


async def test_a_step_that_outlives_the_drain_releases_its_lock(place: Place, claude: StrictClaude) -> None:
    sidecar = await place.sidecar()
    agent = place.agent()
    agent.ask("Do you hang?")
    async with sending(agent, sidecar.url, "hang") as attempt:
        await claude.received(1)
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0
    assert not attempt.result().acknowledged
    assert await place.lock() == ""


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_memory_survives_the_death_of_everything(place: Place, claude: StrictClaude, stream: bool) -> None:
    sidecar = await place.sidecar()
    agent = place.agent()
    agent.ask("The code word for the launch is heliotrope. [[say: Noted.]]")
    assert (await agent.send(sidecar.url, stream=stream)).acknowledged
    await asyncio.gather(sidecar.kill(), place.valkey.kill(), place.postgres.kill())
    await asyncio.gather(place.valkey.restart(), place.postgres.restart())
    again = await place.sidecar()
    fresh = place.agent()
    fresh.ask("What is the code word for the launch?")
    answer = await fresh.send(again.url, stream=stream)
    assert answer.acknowledged
    assert "heliotrope" in str(answer.message["content"])


async def test_answered_again_after_a_death_behind_the_commit(place: Place, claude: StrictClaude) -> None:
    """Two processes; the one that committed dies before its client has the end: the other tells the stored reply."""
    first, second = await place.sidecar(), await place.sidecar()
    agent = place.agent()
    agent.ask("How many? [[say: Seven.]]")
    answer = await agent.send(first.url)
    assert answer.acknowledged
    # As if the client had not got it: the mark that says so is lost with the process.
    await first.kill()
    await place.redis.delete("ack:sess:{tests/processes}")
    again = await agent.send(second.url)
    assert (again.id, again.commit) == (answer.id, "repeated")
    assert len(claude.turns) == 1


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_death_between_hidden_exchanges_writes_once(place: Place, claude: StrictClaude, stream: bool) -> None:
    """The memory tool was answered, Claude's next reply is under way, and its sidecar is killed."""
    first, second = await place.sidecar(), await place.sidecar()
    create = {"command": "create", "path": "/memories/notes.md", "file_text": "likes coffee"}
    called = Reply(blocks=["I note it.", {"type": "tool_use", "name": "memory", "input": create}])
    body = {
        "model": "claude-opus-5-5", "max_tokens": 1000, "stream": stream, "thinking": {"type": "adaptive"},
        "tools": [{"type": "memory_20250818", "name": "memory"}],
    }  # fmt: skip
    headers = {"X-Agent-Session": SESSION, "x-api-key": "k", "anthropic-version": "2023-06-01"}

    async def ask(sidecar: Process, *messages: dict[str, object]) -> Answer:
        given = {**body, "messages": list(messages)}
        async with place.http.post(sidecar.url + "/v1/messages", json=given, headers=headers) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, found, await response.read())

    question: dict[str, object] = {"role": "user", "content": "I like coffee."}
    claude.script(called, Reply(fault="hang"))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_ended(ask(first, question)))
        await claude.received(2)
        await first.kill()
    assert asking.result() is None
    await place.redis.pexpire(LOCK, 1_500)  # a renewal was missed
    claude.script(called, "Noted.")
    answer = await ask(second, question)
    assert (answer.status, answer.commit, answer.receipt["turn"]) == (200, "committed", "1")
    view = {"type": "tool_use", "name": "memory", "input": {"command": "view", "path": "/memories/notes.md"}}
    claude.script(Reply(blocks=[view]), "Coffee.")
    again = {"role": "user", "content": "What do I like?"}
    assert (await ask(second, question, {"role": "assistant", "content": answer.content}, again)).commit == "committed"

    results = [
        block["content"]
        for message in claude.requests[-1].messages
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    assert results == [
        "File created successfully at: /memories/notes.md",
        "Here's the content of /memories/notes.md with line numbers:\n     1\tlikes coffee",
    ]
    assert unharmed(claude)


async def _ended(asking: Awaitable[Answer]) -> Answer | None:
    """The answer, or None where its connection was cut."""
    try:
        return await asking
    except aiohttp.ClientError:
        return None
