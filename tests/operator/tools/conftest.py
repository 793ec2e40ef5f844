"""The tools service whole: both its halves, on real stores that a real sidecar writes, behind an API server's stand-in."""

import base64
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from agentmemory_operator.settings import Settings
from agentmemory_operator.tools.server import Tools
from agentmemory_sidecar.pod.reader import Reader
from agentmemory_sidecar.resource import Mounted, SidecarConfig
from tests.operator.tools.api_server import ApiServer, api_server, listening
from tests.sidecar.agents import Agent
from tests.sidecar.conftest import Configure, Start, configure, connect, dsn, start
from tests.sidecar.stand import LOOPBACK

__all__ = ["configure", "connect", "dsn", "start"]


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with api_server() as server:
        yield server


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short: a unix socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="am-tools-") as directory:
        yield Path(directory)


@pytest.fixture
async def reader(run_dir: Path) -> AsyncIterator[Reader]:
    server = Reader(run_dir)
    await server.start(LOOPBACK)
    yield server
    await server.stop()


@dataclass
class Asking:
    """A running tools service, asked as a port-forward does."""

    port: int
    http: aiohttp.ClientSession
    tools: Tools

    async def ask(
        self, token: str, path: str, method: str = "GET", memory: str = "-", namespace: str = "agents", **rest: Any
    ) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {token}", **rest.pop("headers", {})}
        url = f"http://127.0.0.1:{self.port}/namespaces/{namespace}/agentmemories/{memory}{path}"
        async with self.http.request(method, url, headers=headers, **rest) as answer:
            body = await answer.read()
            if answer.content_type == "application/jsonl":
                return answer.status, body.splitlines()
            return answer.status, await answer.json()

    async def refusal(self, token: str, path: str, **rest: Any) -> tuple[int, str]:
        status, body = await self.ask(token, path, **rest)
        assert body["type"] == "error", body
        assert body["request_id"].startswith("req_")
        return status, body["error"]["message"]


@pytest.fixture
async def serve(api: ApiServer, reader: Reader, run_dir: Path) -> AsyncIterator[Callable[..., Awaitable[Asking]]]:
    """``asking = await serve(api_tokens=…, settings=…)``."""
    undo: list[Any] = []

    async def make(*, api_tokens: bool = True, settings: Settings | None = None) -> Asking:
        kube = api.client()
        tools = Tools(kube, settings or Settings(), run_dir, api_tokens=api_tokens)
        site = listening(tools.app())
        api.port = await site.__aenter__()
        http = aiohttp.ClientSession()
        undo.extend((lambda: site.__aexit__(None, None, None), kube.close, http.close))
        return Asking(api.port, http, tools)

    yield make
    for each in reversed(undo):
        await each()


def shared(config: SidecarConfig) -> SidecarConfig:
    """As the operator writes it: with the master key that all processes of the resource share."""
    return config.model_copy(update={"key_master": SecretStr(base64.b64encode(os.urandom(32)).decode())})


def mounted(*configs: SidecarConfig) -> dict[str, str]:
    """The Secret's content."""
    return Mounted(resource=configs[0].name, generation=1, regions={each.region: each for each in configs}).files()


@dataclass
class Remembered:
    """A resource whose sidecar has seen one session."""

    config: SidecarConfig
    session: str = "party/1 ü"

    @property
    def quoted(self) -> str:
        return "party%2F1%20%C3%BC"


@pytest.fixture
async def remembered(api: ApiServer, configure: Configure, start: Start, connect: Callable[..., Agent]) -> Remembered:
    """In namespace ``agents``, as its only AgentMemory."""
    found = Remembered(shared(configure()))
    stand = await start(found.config)
    agent = connect(stand, session=found.session, headers={"X-Agent-Session": ""})
    agent.path = f"/s/{found.quoted}/v1/messages"
    await agent.good("Plan the party.")
    await stand.settled()
    for name in ("agentmemory-config", "agentmemory-config-test"):
        api.secrets["agents", name] = mounted(found.config)
    return found
