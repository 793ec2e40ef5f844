"""One configuration at work: open stores, connections to Claude, background work. The servers in front of it are others'."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from agentmemory_sidecar.archive.keys import KeyStore, LocalKeyStore
from agentmemory_sidecar.archive.outbox import Archiver
from agentmemory_sidecar.archive.shared_keys import SharedKeyStore
from agentmemory_sidecar.http.upstream import HttpUpstream
from agentmemory_sidecar.memory.rules import Rules
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.models.embedder import NoModel
from agentmemory_sidecar.models.strategy import extractor, selector
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.step.patches import Patches
from agentmemory_sidecar.step.recent import Recents
from agentmemory_sidecar.step.renewals import Renewals
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.health import Cooldown
from agentmemory_sidecar.stores.opened import Stores, open_stores
from agentmemory_sidecar.stores.protocols import KeyShelf, StateStore, StoreUnavailable
from agentmemory_sidecar.tasks import Tasks
from agentmemory_sidecar.wire.identify import IdentityRules

log = logging.getLogger(__name__)

SWEEP_S = 20.0
"""How often the outboxes of quiet conversations are looked through."""
SWEEP_ELSEWHERE_S = 300.0
"""Likewise those of other regions' heads, which their own sidecars sweep while there are any."""
DRAIN_ARCHIVE_S = 5.0


class SharedStores:
    """Open stores that engines use one after another, and for a while at once. The last one to leave closes them."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self._users = 0
        self._tasks = Tasks()

    @classmethod
    async def open(cls, config: SidecarConfig) -> "SharedStores":
        """Raises what ``open_stores`` raises."""
        return cls(await open_stores(config))

    def enter(self) -> Stores:
        if not self._users:
            for server in self.stores.servers:
                self._tasks.start(server.keep(), f"keep {server.name} running")
            if self.stores.without_tables:
                self._tasks.start(self.stores.make_tables(), "make tables")
        self._users += 1
        return self.stores

    async def leave(self) -> None:
        self._users -= 1
        if not self._users:
            await self._tasks.close()
            await self.stores.close()


class Engine:
    """``start`` opens everything, ``stop`` gives it back. Steps run in ``tasks``, which may be several engines'."""

    def __init__(
        self,
        config: SidecarConfig,
        shared: SharedStores,
        *,
        pod: str,
        tasks: Tasks,
        metrics: Metrics,
        session: str = "",
        upstreams: Mapping[str, str] | None = None,
    ) -> None:
        """``session`` is whose the requests are that name none; ``upstreams`` are base URLs of containers that had one of
        their own, by name."""
        self.config, self.shared = config, shared
        self._pod, self._tasks, self._metrics = pod, tasks, metrics
        self._session, self._upstreams = session, upstreams or {}
        self._background = Tasks()
        self._undo = contextlib.AsyncExitStack()
        self._in_use = 0
        self._idle = asyncio.Event()
        self.views: dict[str, Services] = {}
        """What a container with a base URL of its own is served with."""

    async def start(self) -> None:
        """Raises TlsError."""
        stores = self.shared.enter()
        self._undo.push_async_callback(self.shared.leave)
        try:
            self._start(stores)
            await self._open_filter()
        except BaseException:
            await self._undo.aclose()
            raise

    async def _open_filter(self) -> None:
        """A model that is not to be had is no reason not to start: words choose then, and receipts say so."""
        try:
            await self.services.filter.open()
        except NoModel as error:
            log.error("filter.embeddings: %s", error)
        if self.services.extractor is not None:
            await self.services.extractor.learner.open()

    def _start(self, stores: Stores) -> None:
        upstream = HttpUpstream(self.config.upstream)
        self._undo.push_async_callback(upstream.close)
        self.services = services = assemble(
            self.config, stores, upstream, self._tasks, self._pod, metrics=self._metrics, session=self._session
        )
        if self.config.extraction.sub_agent is not None:
            services.extractor = extractor(self.config, self.config.extraction.sub_agent, self._metrics)
            self._undo.push_async_callback(services.extractor.learner.close)
        services.elsewhere = tuple(elsewhere(services, stores, tier) for tier in stores.elsewhere)
        for container, url in self._upstreams.items():
            own = self.config.upstream.model_copy(update={"url": url.rstrip("/"), "tls": None, "server_name": ""})
            other = HttpUpstream(own)
            self._undo.push_async_callback(other.close)
            others = tuple(replace(each, upstream=other) for each in services.elsewhere)
            self.views[container] = replace(services, upstream=other, elsewhere=others)
        self._undo.push_async_callback(services.filter.close)
        self._undo.push_async_callback(self._background.close)
        self._background.start(services.renewals.run(), "renew locks")
        if services.extractor is not None:
            self._background.start(services.extractor.run(), "extract from turns")
        for each in (services, *services.elsewhere):
            if services.extractor is not None:
                each.archiver.on_unread = partial(services.extractor.submit, each, own=False)
            self._background.start(each.archiver.run(), "carry records")
        for each in services.elsewhere:
            self._background.start(each.archiver.sweep_for_ever(SWEEP_ELSEWHERE_S), "sweep outboxes of other heads")
        self._background.start(services.archiver.sweep_for_ever(SWEEP_S), "sweep outboxes")

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """While one request is answered."""
        self._in_use += 1
        try:
            yield
        finally:
            self._in_use -= 1
            if not self._in_use:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until no request is being answered. Call it once no more are given to this engine."""
        while self._in_use:
            self._idle.clear()
            await self._idle.wait()

    def cancel_steps(self) -> None:
        """Steps that run are stopped, but for those that are being saved; each frees its lock."""
        for flight in tuple(self.services.flights):
            flight.cancel()

    async def stop(self) -> None:
        """Carry to the archive what waits, as far as it can be done in a moment (the rest lies safe in the state tier), and
        give everything back. Steps should have ended before."""
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(DRAIN_ARCHIVE_S):
                await self.services.archiver.drain()
        await self._undo.aclose()


def key_store(config: SidecarConfig, stores: Stores) -> KeyStore:
    """Shared by all sidecars of the resource where it has a master key, else this machine's own."""
    if not config.key_master.get_secret_value():
        return LocalKeyStore(Path(config.keys_dir))
    assert stores.shelf is not None
    return SharedKeyStore(stores.shelf, config.master, head=stores.state.head)


def elsewhere(services: Services, stores: Stores, tier: tuple[StateStore, KeyShelf]) -> Services:
    """The same services with another region's endpoint of the state tier, whose head is another item."""
    state, shelf = tier
    config = services.config
    patches = Patches(state, stores.hot, config, services.metrics)
    archiver = Archiver(config.tenant, stores.records, stores.blobs, state, patches, state_ttl_s=services.state_ttl_s)
    keys = SharedKeyStore(shelf, config.master, head=state.head) if config.master else services.keys
    return replace(
        services, state=state, patches=patches, archiver=archiver, keys=keys, recents=Recents(),
        state_health=Cooldown(2.0, 30.0), elsewhere=(), substitute=True,
    )  # fmt: skip


def assemble(
    config: SidecarConfig,
    stores: Stores,
    upstream: HttpUpstream,
    tasks: Tasks,
    pod: str,
    *,
    metrics: Metrics,
    session: str = "",
) -> Services:
    """Everything a step works with."""
    ttl = None if config.state_ttl_s is None else round(config.state_ttl_s)
    patches = Patches(stores.state, stores.hot, config, metrics)
    identity = config.identity
    return Services(
        config=config,
        rules=IdentityRules(
            config.tenant,
            identity.session_headers,
            identity.user_headers,
            identity.project_headers,
            identity.group_headers,
            session=session,
            user=identity.default_user,
            project=identity.default_project,
        ),
        hot=stores.hot,
        state=stores.state,
        blobs=stores.blobs,
        records=stores.records,
        keys=key_store(config, stores),
        archiver=Archiver(config.tenant, stores.records, stores.blobs, stores.state, patches, state_ttl_s=ttl),
        patches=patches,
        renewals=Renewals(config.lock.renew_s),
        upstream=upstream,
        filter=selector(config.filter, tasks, metrics),
        extraction_rules=Rules(config.extraction.rules, config.extraction.builtin),
        metrics=metrics,
        tasks=tasks,
        pod=pod,
        state_ttl_s=ttl,
    )
