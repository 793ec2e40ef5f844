"""The life of a sidecar in a pod: it serves before it has a configuration, takes a new one up while it runs, and keeps the
last good one if the next is bad.

It never ends because of its configuration. A container that exits over and over shows its reason in the log of a former
start, notices a repair up to five minutes late, and as a native sidecar keeps the agent from starting at all, without a
word to it. What is wrong is therefore told to the agent (503), to the log, to the readiness probe and to a metric.
"""

import asyncio
import contextlib
import logging
import traceback
from pathlib import Path

from aiohttp import web

from agentmemory_sidecar.admin.server import Admin
from agentmemory_sidecar.admin.socket import unix_socket
from agentmemory_sidecar.app import DRAIN_S, Address, pod_name, serve
from agentmemory_sidecar.engine import Engine, SharedStores
from agentmemory_sidecar.http.server import Proxy
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.pod.choice import Unconfigured, configured, same, same_stores
from agentmemory_sidecar.pod.environment import Environment
from agentmemory_sidecar.pod.file import WatchedFile
from agentmemory_sidecar.pod.lag import Heartbeat
from agentmemory_sidecar.pod.metrics import PodMetrics
from agentmemory_sidecar.pod.probes import Probes, Report
from agentmemory_sidecar.pod.proxy import Serving
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.mounted import KEY
from agentmemory_sidecar.stores.embedded.files import EmbeddedError
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from agentmemory_sidecar.tasks import Tasks
from agentmemory_sidecar.tls import TlsError

log = logging.getLogger(__name__)

POLL_S = 1.0
"""How often the mounted file is looked at; one call to the system."""
TRY_AGAIN_S = 10.0
"""How long before a configuration that could not be put to work is tried again: what it needs may have come meanwhile."""


class Pod:
    """``start`` returns when it listens; ``run`` follows the configuration until cancelled; ``stop`` drains."""

    def __init__(
        self, config_dir: Path, around: Environment, *, data: Path | None = None, ready_after_s: float = 20.0
    ) -> None:
        self._around, self._data = around, data
        self._file = WatchedFile(config_dir / KEY)
        self._pod = around.pod or pod_name()
        self._undo = contextlib.AsyncExitStack()
        self._tasks = Tasks()
        self._background = Tasks()
        self._retired: set[Engine] = set()
        self._metrics = Metrics()
        self._counted = PodMetrics(self._metrics.registry)
        self._serving = Serving()
        self._problem = ""
        self._again_at: float | None = None
        self._said_no_session = False
        self._heartbeat = Heartbeat()
        self.probes = Probes(
            self._report, self._heartbeat, self._metrics.registry, ready_after_s, around.require_backend
        )
        self.admin = Admin("")
        self.address = self.probes_address = Address("", 0)

    @property
    def engine(self) -> Engine | None:
        """What serves now."""
        return self._serving.engine

    # --------------------------------------------------------------------------------------------------- start and stop

    async def start(self, listen: Address, probes: Address, admin_socket: Path | None) -> None:
        """Read the configuration, if there is one, and listen. Raises OSError."""
        try:
            await self._start(listen, probes, admin_socket)
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self, listen: Address, probes: Address, admin_socket: Path | None) -> None:
        self._undo.push_async_callback(self._tasks.close)
        self.proxy = Proxy(self._tasks, self._metrics, self._serving)
        self.address = await serve(web.ServerRunner(self.proxy.server(), shutdown_timeout=1.0), listen, self._undo)
        runner = web.AppRunner(self.probes.app(), access_log=None, shutdown_timeout=1.0)
        self.probes_address = await serve(runner, probes, self._undo)
        if admin_socket is not None:
            runner = web.AppRunner(self.admin.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            self._undo.push_async_callback(runner.cleanup)
            self._undo.callback(admin_socket.unlink, missing_ok=True)
            await web.SockSite(runner, unix_socket(admin_socket)).start()
        self._background.start(self._heartbeat.run(), "beat")
        await self.look()
        self._background.start(self._follow(), "follow the configuration")

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Refuse new requests, let running steps end for ``drain_s``, cancel the rest (they release their locks), carry to
        the archive what waits, close."""
        self.probes.stopping = True
        if hasattr(self, "proxy"):
            self.proxy.stopping = True
        await self._tasks.drain(drain_s)
        engines = [engine for engine in (self.engine, *self._retired) if engine is not None]
        for engine in engines:
            engine.cancel_steps()
        await self._tasks.drain(5.0)
        # Also what waits for a former engine to come to its end: it is stopped here.
        await self._background.close()
        await self._undo.aclose()
        self._serving.engine = None
        for engine in engines:
            await engine.stop()

    # ---------------------------------------------------------------------------------------------------- configuration

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self.look()
            self._mind_sessions()

    async def look(self) -> None:
        """Take up what is mounted, if it is another one than before, or if the last one could not be put to work."""
        again = self._again_at is not None and asyncio.get_running_loop().time() >= self._again_at
        if not self._file.changed() and not again:
            return
        self._again_at = None
        try:
            config = configured(self._file.read(), self._around, self._data)
            current = self.engine
            if current is not None and same(current.config, config):
                self._taken(config, "unchanged")
                return
            engine = await self._open(config, current)
        except Unconfigured as problem:
            self._refuse(str(problem))
        except (EmbeddedError, StoreUnavailable, TlsError, OSError) as error:
            self._try_again(str(error))
        except Exception as error:
            # Where it was, not what it says: its text may quote a password.
            where_it_was = "".join(traceback.format_tb(error.__traceback__))
            log.error("a configuration failed: %s\n%s", type(error).__name__, where_it_was)
            self._try_again(f"{type(error).__name__}; the log says where")
        else:
            self._swap(engine, current)

    async def _open(self, config: SidecarConfig, current: Engine | None) -> Engine:
        """An engine for this configuration, started. It takes over the open stores where they are the same."""
        keep = current is not None and same_stores(current.config, config)
        shared = current.shared if current is not None and keep else await SharedStores.open(config)
        engine = Engine(
            config, shared, pod=self._pod, tasks=self._tasks, metrics=self._metrics,
            session=self._around.session, upstreams=self._around.upstreams,
        )  # fmt: skip
        await engine.start()
        return engine

    def _swap(self, engine: Engine, former: Engine | None) -> None:
        """New requests go to the new engine at once; the former one ends when its last request has."""
        self._serving.engine = engine
        self.admin.use(engine.services, engine.shared.stores)
        self._taken(engine.config, "applied")
        if former is not None:
            self._retired.add(former)
            self._background.start(self._retire(former), "retire an engine")

    async def _retire(self, engine: Engine) -> None:
        await engine.idle()
        await engine.stop()
        self._retired.discard(engine)

    def _taken(self, config: SidecarConfig, outcome: str) -> None:
        if outcome == "applied" or self._problem:
            log.info(
                "configuration of AgentMemory %s in use: generation %d, region %s",
                config.name, config.generation, config.region,
            )  # fmt: skip
        self._problem = ""
        self._counted.configured.set(1)
        self._counted.generation.set(config.generation)
        self._counted.reloads.labels(outcome).inc()
        self._generation = config.generation

    def _try_again(self, reason: str) -> None:
        self._again_at = asyncio.get_running_loop().time() + TRY_AGAIN_S
        self._refuse(f"the configuration cannot be put to work: {reason}")

    def _refuse(self, problem: str) -> None:
        self._counted.reloads.labels("refused").inc()
        if problem != self._problem:
            kept = "; the last good configuration stays in use" if self.engine is not None else ""
            log.error("%s%s", problem, kept)
        self._problem = problem
        if self.engine is None:
            self._serving.unconfigured = self.admin.unconfigured = problem

    def _mind_sessions(self) -> None:
        """Say once that some traffic is remembered nowhere. (The metric counts it.)"""
        if not self._said_no_session and self._metrics.no_identity._value.get():
            self._said_no_session = True
            log.warning(
                "requests came that name no session, and are not remembered: set the annotation agentmemory.io/session, or "
                "have the client send a header that the resource lists (docs/clients.md)"
            )

    # ------------------------------------------------------------------------------------------------------------ probes

    def _report(self) -> Report:
        self._counted.lag.set(self._heartbeat.lag)
        engine = self.engine
        if engine is None:
            return Report(detail=self._problem or self._serving.unconfigured)
        stores = engine.shared.stores
        return Report(
            resource=engine.config.name,
            region=engine.config.region,
            generation=self._generation,
            detail=self._problem,
            pings={"hot": stores.hot.ping, "state": stores.state.ping, "archive": stores.records.ping},
        )
