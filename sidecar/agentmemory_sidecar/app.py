"""One sidecar on a machine: an engine and its two servers, started and stopped in order."""

import contextlib
import os
import secrets
from dataclasses import dataclass

from aiohttp import web

from agentmemory_sidecar.admin.server import Admin
from agentmemory_sidecar.engine import Engine, SharedStores
from agentmemory_sidecar.http.server import Proxy
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.opened import Stores
from agentmemory_sidecar.tasks import Tasks

DRAIN_S = 25.0
"""How long running steps may take to end when the pod is told to stop (Kubernetes grants 30 s)."""


@dataclass(frozen=True, slots=True)
class Address:
    """``host`` empty: all addresses of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Sidecar:
    """A running sidecar. ``start`` returns when it takes requests; ``stop`` drains, then releases everything."""

    def __init__(self, config: SidecarConfig, *, pod: str = "", stores: Stores | None = None) -> None:
        self.config = config
        self._pod = pod or pod_name()
        self._given = stores
        self._tasks = Tasks()
        self._undo = contextlib.AsyncExitStack()
        self.address = Address("", 0)
        self.admin_address = Address("", 0)
        self.token = secrets.token_urlsafe(24)

    @property
    def services(self) -> Services:
        return self._engine.services

    async def start(self, listen: Address, admin: Address) -> None:
        """Open the stores and listen. Port 0 takes a free one. Raises what ``open_stores`` raises, TlsError and
        OSError."""
        try:
            await self._start(listen, admin)
        except BaseException:
            await self._undo.aclose()
            raise

    async def _start(self, listen: Address, admin: Address) -> None:
        shared = SharedStores(self._given) if self._given else await SharedStores.open(self.config)
        self._engine = Engine(self.config, shared, pod=self._pod, tasks=self._tasks, metrics=Metrics())
        await self._engine.start()
        self._undo.push_async_callback(self._engine.stop)
        self._undo.push_async_callback(self._tasks.close)
        self.proxy = Proxy(
            self._tasks, self.services.metrics, lambda path: contextlib.nullcontext((self.services, path))
        )
        self.address = await serve(web.ServerRunner(self.proxy.server(), shutdown_timeout=1.0), listen, self._undo)
        api = Admin(self.token)
        api.use(self.services, shared.stores)
        runner = web.AppRunner(api.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        self.admin_address = await serve(runner, admin, self._undo)

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Refuse new requests, let running steps end for ``drain_s``, cancel the rest (they release their locks), close."""
        if hasattr(self, "proxy"):
            self.proxy.stopping = True
            await self._tasks.drain(drain_s)
            self._engine.cancel_steps()
            await self._tasks.drain(5.0)
        await self._undo.aclose()


def pod_name() -> str:
    """What tells this process from others in locks."""
    return os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or secrets.token_hex(4)


async def serve(runner: web.BaseRunner, where: Address, undo: contextlib.AsyncExitStack) -> Address:
    """Listen; ``undo`` closes it again. Raises OSError."""
    await runner.setup()
    undo.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, where.host or None, where.port, backlog=1024)
    await site.start()
    host, port = runner.addresses[0][:2]
    return Address(host, port)
