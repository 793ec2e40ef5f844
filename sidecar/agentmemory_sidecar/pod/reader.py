"""Admin APIs for people who come through the cluster: one for each configuration that is handed in, open while it is asked.

Who hands them in decides who may ask what (the operator's tools service); here is neither that nor any access to Kubernetes.
All of it is unix sockets in one directory, which only that process mounts: ``reader.sock`` takes configurations, and each
that is open has a socket of its own.
"""

import asyncio
import contextlib
import logging
import math
import traceback
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
from aiohttp import web

from agentmemory_sidecar.admin.server import Admin, failed
from agentmemory_sidecar.admin.socket import unix_socket
from agentmemory_sidecar.app import Address, pod_name, serve
from agentmemory_sidecar.engine import Engine, SharedStores
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.pod.choice import Unconfigured, configured
from agentmemory_sidecar.pod.environment import Environment
from agentmemory_sidecar.pod.lag import Heartbeat
from agentmemory_sidecar.pod.probes import Probes, Report
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.mounted import KEY, LIMIT
from agentmemory_sidecar.stores.embedded.files import EmbeddedError
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from agentmemory_sidecar.tasks import Tasks
from agentmemory_sidecar.tls import TlsError
from agentmemory_sidecar.wire.errors import ApiError

log = logging.getLogger(__name__)

SOCKET = "reader.sock"
IDLE_S = 300.0
"""What has not been asked for so long is closed."""
LOOK_S = 15.0
MOST = 16
"""Configurations that are open at once."""
OPENING_S = 20.0
ENDING_S = 30.0
"""How long answers that are on their way may take when the process is told to stop."""


class Handed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is handed in: the Secret of a resource as text, and the region to look from."""

    region: str
    files: dict[str, str]


@dataclass(slots=True)
class _Open:
    engine: Engine
    runner: web.AppRunner
    socket: Path
    asked_at: float

    @property
    def busy(self) -> bool:
        return bool(self.runner.server and self.runner.server.connections)

    async def close(self) -> None:
        self.socket.unlink(missing_ok=True)
        await self.runner.cleanup()
        await self.engine.stop()


class Reader:
    """``start`` returns when it listens; ``stop`` ends what is open."""

    def __init__(self, directory: Path, *, idle_s: float = IDLE_S, most: int = MOST) -> None:
        self._directory, self._idle_s, self._most = directory, idle_s, most
        self._open: dict[str, _Open] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._undo = contextlib.AsyncExitStack()
        self._tasks, self._background = Tasks(), Tasks()
        self._metrics, self._heartbeat = Metrics(), Heartbeat()
        self.probes = Address("", 0)

    async def start(self, probes: Address) -> None:
        """Raises OSError."""
        try:
            await self._start(probes)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, probes: Address) -> None:
        app = web.Application(client_max_size=4 * LIMIT)
        app.add_routes([web.get("/healthz", self._healthy), web.put("/{key:[0-9a-f]{32}}", self._put)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._undo.push_async_callback(runner.cleanup)
        path = self._directory / SOCKET
        await web.SockSite(runner, unix_socket(path)).start()
        self._undo.callback(path.unlink, missing_ok=True)
        report = Report(resource="tools")
        asked = Probes(lambda: report, self._heartbeat, self._metrics.registry, 0.0, False)
        self.probes = await serve(web.AppRunner(asked.app(), access_log=None), probes, self._undo)
        self._background.start(self._heartbeat.run(), "beat")
        self._background.start(self._mind(), "close what nobody asks")

    async def stop(self) -> None:
        await self._background.close()
        await self._undo.aclose()
        for key in tuple(self._open):
            await self._open.pop(key).close()
        await self._tasks.close()

    # ------------------------------------------------------------------------------------------------------------- asked

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "open": len(self._open)})

    async def _put(self, request: web.Request) -> web.Response:
        """204 once ``<key>.sock`` answers. The key stands for the content: whoever hands in another one has another key."""
        key = request.match_info["key"]
        try:
            handed = msgspec.json.decode(await request.read(), type=Handed)
            async with self._locked(key):
                if key not in self._open:
                    await self._make_room()
                    self._open[key] = await self._opened(key, handed)
                self._open[key].asked_at = asyncio.get_running_loop().time()
        except msgspec.DecodeError:
            return failed(ApiError(400, "invalid_request_error", 'Send {"region": …, "files": {…}}.'))
        except ApiError as error:
            return failed(error)
        return web.Response(status=204)

    def _locked(self, key: str) -> asyncio.Lock:
        """One thing at a time for each configuration: one whose stores do not answer holds up no other."""
        return self._locks.setdefault(key, asyncio.Lock())

    async def _opened(self, key: str, handed: Handed) -> _Open:
        """Raises ApiError."""
        try:
            text = handed.files.get(KEY)
            config = configured(None if text is None else text.encode(), Environment(region=handed.region))
            engine = await self._engine(config)
        except Unconfigured as problem:
            raise unusable(str(problem)) from None
        except TimeoutError:
            raise unusable(f"its stores did not answer within {OPENING_S:g} s") from None
        except (EmbeddedError, StoreUnavailable, TlsError, OSError) as error:
            raise unusable(str(error)) from None
        except Exception as error:
            # Where it was, not what it says: its text may quote a password.
            where_it_was = "".join(traceback.format_tb(error.__traceback__))
            log.error("a configuration failed: %s\n%s", type(error).__name__, where_it_was)
            raise unusable(f"{type(error).__name__}; the reader's log says where") from None
        admin = Admin("")
        admin.use(engine.services, engine.shared.stores)
        runner = web.AppRunner(admin.app(), handler_cancellation=True, access_log=None, shutdown_timeout=ENDING_S)
        await runner.setup()
        path = self._directory / f"{key}.sock"
        await web.SockSite(runner, unix_socket(path)).start()
        log.info("AgentMemory %s is open, region %s", config.name, config.region)
        return _Open(engine, runner, path, asyncio.get_running_loop().time())

    async def _engine(self, config: SidecarConfig) -> Engine:
        async with asyncio.timeout(OPENING_S):
            shared = await SharedStores.open(config)
            engine = Engine(config, shared, pod=pod_name(), tasks=self._tasks, metrics=self._metrics)
            await engine.start()
            return engine

    # ------------------------------------------------------------------------------------------------------------- closed

    async def _mind(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_S, self._idle_s))
            for key in tuple(self._open):
                await self._close(key, asyncio.get_running_loop().time() - self._idle_s)

    async def _make_room(self) -> None:
        """Raises ApiError where all that are open are being asked."""
        while len(self._open) >= self._most:
            quiet = [key for key, each in self._open.items() if not each.busy]
            if not quiet:
                said = f"{self._most} AgentMemories are being asked at this moment, and more are not opened: try again."
                raise ApiError(503, "overloaded_error", said)
            await self._close(min(quiet, key=lambda key: self._open[key].asked_at))

    async def _close(self, key: str, since: float = math.inf) -> None:
        """If it is not being asked, and was not since then."""
        async with self._locked(key):
            found = self._open.get(key)
            if found is not None and not found.busy and found.asked_at <= since:
                del self._open[key]
                await found.close()
                log.info("AgentMemory %s is closed", found.engine.config.name)


def unusable(reason: str) -> ApiError:
    """503: the configuration, or a store of it."""
    return ApiError(503, "api_error", f"The memory cannot be opened: {reason}.", "memory_unavailable")
