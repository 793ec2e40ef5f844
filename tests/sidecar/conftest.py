"""Fixtures for tests that talk to a whole sidecar over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agentmemory_sidecar.resource import SidecarConfig
from agentmemory_sidecar.resource.store_config import PostgresStore
from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey
from agentmemory_sidecar.stores.postgres import migrate
from tests.claude import StrictClaude
from tests.faults import FaultProxy
from tests.sidecar.agents import Agent
from tests.sidecar.raw import RawUpstream
from tests.sidecar.stand import Json, Stand, configured
from tests.sidecar.stores.conformance.backends import postgres_options, postgres_target
from tests.sidecar.tiers import Tiers

Start = Callable[..., Awaitable[Stand]]
Configure = Callable[..., SidecarConfig]


@pytest.fixture
async def dsn(postgres_dsn: str) -> str:
    """The session's Postgres, with our tables."""
    await migrate(postgres_dsn)
    return postgres_dsn


@pytest.fixture
def configure(valkey: EmbeddedValkey, dsn: str, claude: StrictClaude, tmp_path: Path) -> Configure:
    """``configure(spec, redis=…, postgres=…, upstream=…)``: a configuration for the shared servers unless told others."""

    def make(
        spec: dict[str, Any] | None = None, *, redis: str = "", postgres: str = "", upstream: str = ""
    ) -> SidecarConfig:
        return configured(
            spec or {},
            redis=redis or valkey.url,
            postgres=postgres or dsn,
            upstream=upstream or claude.url,
            directory=tmp_path,
        )

    return make


@pytest.fixture
async def start(configure: Configure) -> AsyncIterator[Start]:
    """``stand = await start(spec…)`` or ``await start(config)``: as many sidecars as the test needs."""
    running: list[Stand] = []

    async def make(spec: dict[str, Any] | SidecarConfig | None = None, *, pod: str = "", **servers: str) -> Stand:
        config = spec if isinstance(spec, SidecarConfig) else configure(spec, **servers)
        stand = Stand(config, pod=pod)
        running.append(stand)
        return await stand.start()

    yield make
    for stand in running:
        await stand.stop()


@pytest.fixture
async def stand(start: Start) -> Stand:
    """A sidecar with the defaults of the resource."""
    return await start()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Agent]]:
    """``agent = connect(stand, …)``: a client, closed with the test."""
    made: list[Agent] = []

    def make(stand: Stand, **rest: Any) -> Agent:
        agent = Agent(stand.url, **rest)
        made.append(agent)
        return agent

    yield make
    for agent in made:
        await agent.http.close()


@pytest.fixture
async def agent(stand: Stand, connect: Callable[..., Agent]) -> Agent:
    """A streaming, thinking client of ``stand``."""
    return connect(stand)


@pytest.fixture
async def raw() -> AsyncIterator[RawUpstream]:
    """A stand-in for Claude that sends the very bytes a test gives it."""
    async with RawUpstream() as server:
        yield server


@pytest.fixture
async def tiers(
    configure: Configure, start: Start, valkey: EmbeddedValkey, dsn: str
) -> AsyncIterator[Callable[..., Any]]:
    """``await tiers(spec)``."""
    async with AsyncExitStack() as open_proxies:

        async def make(spec: Json | None = None) -> Tiers:
            target = postgres_target(dsn)
            hot = await open_proxies.enter_async_context(FaultProxy(valkey.socket))
            state, archive = [await open_proxies.enter_async_context(FaultProxy(target)) for _ in range(2)]
            config = configure(
                spec,
                redis=f"redis://:{valkey.password}@{hot.host}:{hot.port}",
                postgres=postgres_options(dsn, state).dsn,
            )
            other = PostgresStore.model_validate({"dsn": postgres_options(dsn, archive).dsn})
            stand = await start(config.model_copy(update={"archive": other}))
            open_proxies.push_async_callback(stand.stop)  # before its stores go for good
            return Tiers(stand, hot, state, archive)

        yield make
