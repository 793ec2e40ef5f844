"""The injection webhook: HTTPS for the API server, plain HTTP for probes and metrics. It calls nobody.

An error of ours is answered with an HTTP error and never with a verdict: the API server then applies the failure policy
of the entry that called, as it does when nobody answers. Only it knows which one that is.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from agentmemory_operator.inject.patch import Decision, inject
from agentmemory_operator.settings import Settings, SettingsError
from agentmemory_operator.webhook import review
from agentmemory_operator.webhook.metrics import Metrics
from agentmemory_operator.webhook.tls import LiveCertificate

log = logging.getLogger(__name__)

PATH = "/inject"
BODY_LIMIT = 3 * 2**20
KEEP_ALIVE_S = 120
"""Longer than the API server keeps idle connections (90 s): whoever closes first must be the one who sends requests."""
LOOK_EVERY_S = 1.0
"""How often files are looked at for a change."""
STALLED_S = 30.0
"""A watch that has not run for so long is stuck."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens; port 0 takes a free one."""

    host: str
    port: int


class Webhook:
    """One webhook process."""

    def __init__(self, settings_file: Path, certificates: Path) -> None:
        """Raises SettingsError."""
        self._settings_file = settings_file
        self._settings_text = settings_file.read_bytes() if settings_file.exists() else b""
        self._settings = Settings.read(settings_file)
        self.certificate = LiveCertificate(certificates)
        self.metrics = Metrics()
        self._stopping = False
        self._looked = time.monotonic()
        self._runners: list[web.AppRunner] = []
        self.address = Listen("", 0)
        """Where it serves, once it does."""
        self.probes = Listen("", 0)

    async def serve(
        self, listen: Listen, probes: Listen, stop: asyncio.Event, *, linger_s: float, drain_s: float
    ) -> None:
        """Serve until ``stop``, then so long until the API server knows and running requests have ended.

        ``linger_s``: how long new requests are still taken, each on a connection that is closed after it. ``drain_s``: how
        long the last ones may take. Raises OSError if it cannot listen.
        """
        self._look()
        try:
            self.probes = await self._listen(self._probes(), probes, tls=False, drain_s=drain_s)
            self.address = await self._listen(self._application(), listen, tls=True, drain_s=drain_s)
            log.info("serving on port %d, probes on port %d", self.address.port, self.probes.port)
            while not stop.is_set():
                self._look()
                await _passed(stop, LOOK_EVERY_S)
            self._stopping = True
            log.info("stopping: answering for another %g s", linger_s)
            await asyncio.sleep(linger_s)
        finally:
            for runner in reversed(self._runners):
                await runner.cleanup()

    async def _listen(self, application: web.Application, where: Listen, *, tls: bool, drain_s: float) -> Listen:
        runner = web.AppRunner(
            application, access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=drain_s, handle_signals=False
        )
        await runner.setup()
        self._runners.append(runner)
        context = self.certificate.context if tls else None
        await web.TCPSite(runner, where.host or None, where.port, ssl_context=context).start()
        return Listen(where.host, runner.addresses[0][1])

    def _look(self) -> None:
        """Take certificate and settings anew if they have changed."""
        self._looked = time.monotonic()
        self.certificate.refresh()
        if (end := self.certificate.not_after) is not None:
            self.metrics.certificate_end.set(end.timestamp())
        try:
            text = self._settings_file.read_bytes()
        except OSError:
            return  # being replaced; the next look finds it
        if text == self._settings_text:
            return
        self._settings_text = text
        try:
            self._settings = Settings.read(self._settings_file)
        except SettingsError as error:
            self.metrics.settings_stale.set(1)
            log.error("the settings before stay in force: %s", error)
        else:
            self.metrics.settings_stale.set(0)
            log.info("took new settings")

    # ------------------------------------------------------------------------------------------------------ admission

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_LIMIT)
        application.router.add_post(PATH, self._admit)
        return application

    async def _admit(self, request: web.Request) -> web.StreamResponse:
        self.metrics.requests.inc()
        try:
            body = await request.read()
            begun = time.perf_counter()
            response = self._answered(body)
            self.metrics.seconds.observe(time.perf_counter() - begun)
        except web.HTTPRequestEntityTooLarge:
            response = self._failed(413, f"the review has more than {BODY_LIMIT} bytes")
        except review.BadReview as error:
            response = self._failed(400, str(error))
        except Exception as error:
            # The type and the place only: an exception's text may quote what a user wrote.
            log.error("a request failed: %s at %s", type(error).__name__, _place(error))
            response = self._failed(500, f"agentmemory's webhook failed: {type(error).__name__}; its log says where")
        if self._stopping:
            response.force_close()
        return response

    def _answered(self, body: bytes) -> web.StreamResponse:
        asked = review.read(body)
        decision = None
        if asked.pod is not None:
            decision = inject(asked.pod, asked.namespace, self._settings)
            self._count(decision)
            level = logging.DEBUG if decision.allowed else logging.INFO
            log.log(level, "%s/%s: %s", asked.namespace, review.described(asked.pod), decision.reason)
        return web.json_response(review.answer(asked.uid, decision))

    def _count(self, decision: Decision) -> None:
        if not decision.allowed:
            self.metrics.refused.labels(decision.reason).inc()
        elif decision.patch:
            self.metrics.injected.inc()
        else:
            self.metrics.skipped.labels(decision.reason).inc()

    def _failed(self, status: int, text: str) -> web.StreamResponse:
        self.metrics.failed.labels(str(status)).inc()
        return web.Response(status=status, text=text)

    # --------------------------------------------------------------------------------------------------------- probes

    def _probes(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        return application

    async def _livez(self, _: web.Request) -> web.StreamResponse:
        alive = self._stopping or time.monotonic() - self._looked < STALLED_S
        return web.Response(status=200 if alive else 503, text="ok" if alive else "the watch of files is stuck")

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        problem = "stopping" if self._stopping else self.certificate.problem()
        end = self.certificate.not_after
        state = {
            "ready": not problem,
            "problem": problem,
            "certificate": self.certificate.fingerprint,
            "notAfter": end.isoformat() if end else "",
        }
        return web.json_response(state, status=503 if problem else 200)

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(self.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _passed(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else "?"
