"""One sidecar: its stores, its background work and its two servers, started and stopped in order."""

import asyncio
import contextlib
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from agentmemory_sidecar.admin.server import Admin
from agentmemory_sidecar.archive.keys import KeyStore, LocalKeyStore
from agentmemory_sidecar.archive.outbox import Archiver
from agentmemory_sidecar.archive.shared_keys import SharedKeyStore
from agentmemory_sidecar.http.server import Proxy
from agentmemory_sidecar.http.upstream import HttpUpstream
from agentmemory_sidecar.memory.filter import make
from agentmemory_sidecar.memory.rules import Rules
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.resource.config import DynamoDbState, SidecarConfig
from agentmemory_sidecar.step.patches import Patches
from agentmemory_sidecar.step.renewals import Renewals
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.opened import Stores, open_stores
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from agentmemory_sidecar.tasks import Tasks
from agentmemory_sidecar.wire.identify import IdentityRules

log = logging.getLogger(__name__)

DRAIN_S = 25.0
"""How long running steps may take to end when the pod is told to stop (Kubernetes grants 30 s)."""
SWEEP_S = 20.0
"""How often the outboxes of quiet conversations are looked through."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Sidecar:
    """A running sidecar. ``start`` returns when it takes requests; ``stop`` drains, then releases everything."""

    def __init__(self, config: SidecarConfig, *, pod: str = "", stores: Stores | None = None) -> None:
        self.config = config
        self._pod = pod or os.environ.get("HOSTNAME") or secrets.token_hex(4)
        self._given = stores
        self._tasks = Tasks()
        self._background = Tasks()
        self._undo = contextlib.AsyncExitStack()
        self.address = Address("", 0)
        self.admin_address = Address("", 0)
        self.token = secrets.token_urlsafe(24)

    async def start(self, listen: Address, admin: Address) -> None:
        """Open the stores and listen. Port 0 takes a free one. Raises what ``open_stores`` raises, TlsError and
        OSError."""
        try:
            await self._start(listen, admin)
        except BaseException:
            await self._undo.aclose()
            raise

    async def _start(self, listen: Address, admin: Address) -> None:
        warn_of_regions(self.config)
        stores = self._given or await open_stores(self.config)
        self._undo.push_async_callback(stores.close)
        upstream = HttpUpstream(self.config.upstream)
        self._undo.push_async_callback(upstream.close)
        self.services = services = assemble(self.config, stores, upstream, self._tasks, self._pod)
        self._undo.push_async_callback(self._background.close)
        for server in stores.servers:
            self._background.start(server.keep(), f"keep {server.name} running")
        if stores.without_tables:
            self._background.start(stores.make_tables(), "make tables")
        self._background.start(services.renewals.run(), "renew locks")
        self._background.start(services.archiver.run(), "carry records")
        self._background.start(services.archiver.sweep_for_ever(SWEEP_S), "sweep outboxes")
        self._undo.push_async_callback(self._drain)
        self.proxy = Proxy(services)
        self.address = await self._serve(web.ServerRunner(self.proxy.server(), shutdown_timeout=1.0), listen)
        app = Admin(services, stores, self.token).app()
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        self.admin_address = await self._serve(runner, admin)

    async def _serve(self, runner: web.BaseRunner, where: Address) -> Address:
        await runner.setup()
        self._undo.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, where.host, where.port, backlog=1024)
        await site.start()
        host, port = runner.addresses[0][:2]
        return Address(host, port)

    async def _drain(self) -> None:
        """What could not be carried into the archive now lies safe in the state tier."""
        await self._tasks.close()
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(5):
                await self.services.archiver.drain()

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Refuse new requests, let running steps end for ``drain_s``, cancel the rest (they release their locks), close."""
        if hasattr(self, "proxy"):
            self.proxy.stopping = True
            await self._tasks.drain(drain_s)
            for flight in tuple(self.services.flights):
                flight.cancel()
            await self._tasks.drain(5.0)
        await self._undo.aclose()


def warn_of_regions(config: SidecarConfig) -> None:
    """Under an Eventual table each region writes an item of its own, and reads no other's."""
    if len(config.regions) > 1 and isinstance(config.state, DynamoDbState) and not config.state.strong:
        log.warning(
            "regions are not merged yet: region %s reads and writes its own state alone, and sees nothing of %s; keep "
            "each session in one region",
            config.region,
            ", ".join(region for region in config.regions if region != config.region),
        )


def key_store(config: SidecarConfig, stores: Stores) -> KeyStore:
    """Shared by all sidecars of the resource where it has a master key, else this machine's own."""
    if not config.key_master.get_secret_value():
        return LocalKeyStore(Path(config.keys_dir))
    assert stores.shelf is not None
    return SharedKeyStore(stores.shelf, config.master, head=stores.state.head)


def assemble(config: SidecarConfig, stores: Stores, upstream: HttpUpstream, tasks: Tasks, pod: str) -> Services:
    """Everything a step works with."""
    ttl = None if config.state_ttl_s is None else round(config.state_ttl_s)
    metrics = Metrics()
    patches = Patches(stores.state, stores.hot, config, metrics)
    identity = config.identity
    return Services(
        config=config,
        rules=IdentityRules(
            config.tenant,
            identity.session_headers,
            identity.user_headers,
            identity.project_headers,
            user=identity.default_user,
            project=identity.default_project,
        ),
        hot=stores.hot,
        state=stores.state,
        blobs=stores.blobs,
        keys=key_store(config, stores),
        archiver=Archiver(config.tenant, stores.records, stores.blobs, stores.state, patches, state_ttl_s=ttl),
        patches=patches,
        renewals=Renewals(config.lock.renew_s),
        upstream=upstream,
        filter=make(config.filter.strategy),
        extraction_rules=Rules(config.extraction.rules, config.extraction.builtin),
        metrics=metrics,
        tasks=tasks,
        pod=pod,
        state_ttl_s=ttl,
    )
