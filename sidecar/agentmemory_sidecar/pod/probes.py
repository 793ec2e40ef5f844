"""What the kubelet asks, on a port of its own: /livez, /readyz, /metrics. JSON says more to people who look."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from agentmemory_sidecar.pod.lag import Heartbeat
from agentmemory_sidecar.stores.protocols import StoreUnavailable

Ping = Callable[[], Awaitable[None]]

PING_S = 2.0
"""The longest that a store may take to answer a probe."""
FRESH_S = 5.0
"""For how long what the stores answered counts: kubelets ask each second at the start."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the sidecar works with; ``resource`` empty: nothing yet."""

    resource: str = ""
    region: str = ""
    generation: int = 0
    detail: str = ""
    """What is wrong with the configuration; also while the last good one is in use."""
    pings: Mapping[str, Ping] = field(default_factory=dict)


class Probes:
    """Ready once it has a configuration and its stores answer; after ``ready_after_s`` also without, so that an outage keeps
    no agent from starting (it is served degraded, or told what is wrong); never without where ``require_backend``."""

    def __init__(
        self,
        report: Callable[[], Report],
        heartbeat: Heartbeat,
        registry: CollectorRegistry,
        ready_after_s: float,
        require_backend: bool,
    ) -> None:
        self._report, self._heartbeat, self._registry = report, heartbeat, registry
        self._ready_after_s, self._require = ready_after_s, require_backend
        self._since: float | None = None
        self._answers: tuple[float, Mapping[str, bool], object] = (float("-inf"), {}, None)
        self._was_ready = False
        self.stopping = False

    def app(self) -> web.Application:
        """To be started when the sidecar starts: the time until it is ready anyhow begins here."""
        self._since = asyncio.get_running_loop().time()
        app = web.Application()
        app.add_routes([
            web.get("/livez", self._live),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
        ])  # fmt: skip
        return app

    async def _live(self, _: web.Request) -> web.Response:
        alive = self._heartbeat.alive()
        body = {"status": "ok" if alive else "the event loop is held up", "lag_s": round(self._heartbeat.lag, 3)}
        return web.json_response(body, status=200 if alive else 503)

    async def _ready(self, _: web.Request) -> web.Response:
        report = self._report()
        stores = await self._asked(report.pings)
        whole = bool(report.resource) and all(stores.values())
        ready = not self.stopping and (whole or (not self._require and (self._was_ready or self._waited())))
        self._was_ready = self._was_ready or ready
        status = "stopping" if self.stopping else "ok" if whole else "degraded" if report.resource else "not configured"
        body = {
            "status": status, "ready": ready, "resource": report.resource, "region": report.region,
            "generation": report.generation, "stores": dict(stores), "detail": report.detail,
        }  # fmt: skip
        return web.json_response(body, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        self._report()
        return web.Response(body=generate_latest(self._registry), content_type="text/plain")

    def _waited(self) -> bool:
        assert self._since is not None
        return asyncio.get_running_loop().time() - self._since >= self._ready_after_s

    async def _asked(self, pings: Mapping[str, Ping]) -> Mapping[str, bool]:
        """Which stores answer, as far as it was known a moment ago. A store that does not is asked again at once."""
        now = asyncio.get_running_loop().time()
        at, answers, of = self._answers
        if now - at < FRESH_S and of == pings and all(answers.values()):
            return answers
        found = await asyncio.gather(*(_answers(ping) for ping in pings.values()))
        answers = dict(zip(pings, found, strict=True))
        self._answers = (now, answers, pings)
        return answers


async def _answers(ping: Ping) -> bool:
    try:
        async with asyncio.timeout(PING_S):
            await ping()
    except (StoreUnavailable, TimeoutError):
        return False
    return True
