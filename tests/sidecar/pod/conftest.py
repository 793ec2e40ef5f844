"""A pod's sidecar in the test's own event loop, on a mounted Secret that the test writes."""

import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from pydantic import SecretStr

from agentmemory_sidecar.pod import life
from agentmemory_sidecar.pod.environment import Environment
from agentmemory_sidecar.pod.life import Pod
from agentmemory_sidecar.resource import Mounted, SidecarConfig
from tests.sidecar.conftest import Configure
from tests.sidecar.pod.mount import Mount
from tests.sidecar.stand import LOOPBACK, Json

MASTER = base64.b64encode(os.urandom(32)).decode()


def secret(config: SidecarConfig, generation: int = 1) -> str:
    """The Secret's content for this one configuration."""
    config = config.model_copy(update={"key_master": SecretStr(MASTER), "generation": generation})
    return Mounted(resource=config.name, generation=generation, regions={config.region: config}).dumps()


class Living:
    """One pod: its mount, and its running sidecar."""

    def __init__(self, directory: Path, variables: Mapping[str, str], ready_after_s: float, data: Path | None) -> None:
        self.socket = directory / "admin.sock"
        self.mount = Mount(directory / "config")
        self.pod = Pod(self.mount.directory, Environment.read(variables), data=data, ready_after_s=ready_after_s)

    async def start(self) -> "Living":
        await self.pod.start(LOOPBACK, LOOPBACK, self.socket)
        return self

    @property
    def url(self) -> str:
        return f"http://{self.pod.address}"

    async def changed(self, content: str) -> None:
        """The Secret changes, and the pod has looked at it."""
        self.mount.write(content)
        await self.pod.look()

    async def probe(self, path: str) -> tuple[int, Json]:
        async with aiohttp.ClientSession() as http, http.get(f"http://{self.pod.probes_address}{path}") as answer:
            return answer.status, await answer.json()

    async def admin(self, path: str) -> tuple[int, list[Json]]:
        """An answer of the admin API: its lines of JSON."""
        connector = aiohttp.UnixConnector(str(self.socket))
        async with aiohttp.ClientSession(connector=connector) as http, http.get(f"http://admin{path}") as answer:
            return answer.status, [msgspec.json.decode(line) for line in (await answer.read()).splitlines()]

    def metric(self, name: str, **labels: str) -> float:
        return self.pod._metrics.registry.get_sample_value(f"agentmemory_{name}", labels) or 0.0


Live = Callable[..., Awaitable[Living]]


@pytest.fixture
async def live(tmp_path: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """``pod = await live(content, NAME=value…)``: as many pods as the test needs. They look at their Secret when told to."""
    monkeypatch.setattr(life, "POLL_S", 3600.0)
    running: list[Living] = []

    async def make(
        content: str | None = None, *, ready_after_s: float = 0.0, data: Path | None = None, **variables: str
    ) -> Living:
        directory = tmp_path / f"pod-{len(running)}"
        directory.mkdir()
        pod = Living(directory, {"POD_NAME": directory.name, **variables}, ready_after_s, data)
        if content is not None:
            pod.mount.write(content)
        running.append(pod)
        return await pod.start()

    yield make
    for pod in running:
        await pod.pod.stop(5)


def with_tenant(config: SidecarConfig, tenant: str, **more: Any) -> SidecarConfig:
    return config.model_copy(update={"tenant": tenant, **more})
