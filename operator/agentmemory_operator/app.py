"""One operator process: probes, the election, and kopf with everything behind it once it leads."""

import asyncio
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import kopf
from prometheus_client import REGISTRY, make_wsgi_app

from agentmemory_operator import handlers, names
from agentmemory_operator.aws import Aws
from agentmemory_operator.chores import keep_certificates, watch_uninjected
from agentmemory_operator.conditions import ConditionType
from agentmemory_operator.cycle import Fault, StoreTier, World
from agentmemory_operator.heartbeats import Heartbeats
from agentmemory_operator.kube import Cluster, Kube
from agentmemory_operator.leader import Election
from agentmemory_operator.operating import Operating
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers.cosmosdb import CosmosDbTier
from agentmemory_operator.tiers.dynamodb import DynamoDbTier
from agentmemory_operator.tiers.embedded import EmbeddedTier
from agentmemory_operator.tiers.external_redis import ExternalRedisTier
from agentmemory_operator.tiers.postgres import PostgresTier
from agentmemory_operator.tiers.redis import RedisTier
from agentmemory_operator.tiers.s3 import S3Tier
from agentmemory_operator.wake import Sleepers

log = logging.getLogger(__name__)

LEASE_NAME = "agentmemory-operator"
STALL_S = 180.0
"""A loop that is so late has hung: every effect has a time-out far below."""
LOOP_STALL_S = 60.0


def store_tiers(kube: Kube, heartbeats: Heartbeats | None = None) -> tuple[StoreTier, ...]:
    """Every kind of store there is, with the conditions it speaks for."""
    hot, state, archive = ConditionType.REDIS_READY, ConditionType.STATE_READY, ConditionType.ARCHIVE_READY
    aws = heartbeats.aws if heartbeats else Aws()
    return (
        StoreTier(EmbeddedTier(kube), (hot, state, archive)),
        StoreTier(RedisTier(kube), (hot,)),
        StoreTier(ExternalRedisTier(kube), (hot,)),
        StoreTier(DynamoDbTier(kube, aws, heartbeats), (state,)),
        StoreTier(CosmosDbTier(kube), (state,)),
        StoreTier(PostgresTier(kube, "state"), (state,)),
        StoreTier(S3Tier(kube, aws), (archive,)),
        StoreTier(PostgresTier(kube, "archive"), (archive,)),
    )


@dataclass(slots=True)
class Health:
    """What the probes say; read from another thread."""

    sleepers: Sleepers = field(default_factory=Sleepers)
    ticked: float = 0.0
    leads: bool = False

    def problem(self, now: float) -> str:
        """Why this process should be started anew; empty for no reason."""
        if self.ticked and now - self.ticked > LOOP_STALL_S:
            return f"the event loop has stood still for {now - self.ticked:.0f} s"
        stalled = self.sleepers.stalled(STALL_S)
        return f"no tick of {len(stalled)} resources, first {'/'.join(stalled[0])}" if stalled else ""


async def run(settings: Settings, probes: tuple[str, int], fault: Fault | None = None) -> int:
    """Wait for the Lease, then operate until SIGTERM. Returns the exit code; ends the process at once when the Lease is
    lost, because another may lead by then."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube, health = Cluster.connect(), Health()
    own = Cluster.connect()  # of the Lease alone: its renewal must not wait behind what hundreds of resources ask
    server = serve(health, *probes)
    # Of this process alone: one that is started anew in the same pod must wait as any other does.
    identity = f"{os.environ.get('HOSTNAME') or socket.gethostname()}-{secrets.token_hex(4)}"
    election = Election(own, settings.operator_namespace, LEASE_NAME, identity)
    try:
        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(_tick(health))
            stopping = group.create_task(stop.wait())
            acquiring = group.create_task(election.acquire())
            await asyncio.wait((acquiring, stopping), return_when=asyncio.FIRST_COMPLETED)
            if acquiring.done() and not stop.is_set():
                await _lead(kube, settings, health, election, stop, fault or (lambda effect: None))
            for task in (acquiring, stopping, ticking):
                task.cancel()
    finally:
        server.shutdown()
        await kube.close()
        await own.close()
    return 0


async def _lead(
    kube: Kube, settings: Settings, health: Health, election: Election, stop: asyncio.Event, fault: Fault
) -> None:
    health.leads = True

    def wake(namespace: str, name: str) -> None:
        health.sleepers.wake(namespace, names.label(name))

    heartbeats = Heartbeats(Aws(), wake)
    world = World(kube, settings, store_tiers(kube, heartbeats), fault=fault)
    async with asyncio.TaskGroup() as group:
        holding = group.create_task(election.hold())
        holding.add_done_callback(lambda task: None if task.cancelled() else _lost())
        chores = [group.create_task(chore(world)) for chore in (keep_certificates, watch_uninjected)]
        chores.append(group.create_task(heartbeats.watch()))
        await operate(world, health.sleepers, stop)
        for task in (holding, *chores):
            task.cancel()
    await election.release()
    for entry in world.tiers:
        await entry.tier.close()


def _lost() -> None:
    log.critical("the Lease is lost: this process ends, so that never two operate")
    logging.shutdown()
    os._exit(1)


async def operate(world: World, sleepers: Sleepers, stop: asyncio.Event) -> None:
    """Run kopf until ``stop``."""
    registry = kopf.OperatorRegistry()
    handlers.register(registry, Operating(world, sleepers))
    await kopf.operator(
        registry=registry,
        settings=kopf_settings(),
        standalone=True,
        clusterwide=not world.settings.namespaces,
        namespaces=world.settings.namespaces,
        stop_flag=stop,
    )


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf would copy each spec into an annotation, to find what has changed. We look at the whole each time, and a spec
    may hold a password."""

    def fetch(self, *, body: kopf.Body) -> None:
        """Nothing was kept."""

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is kept."""


def kopf_settings() -> kopf.OperatorSettings:
    """kopf as a watcher and a keeper of loops: nothing of its own in our objects but the finalizer."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = names.FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"operator.{names.GROUP}")
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.posting.enabled = False
    settings.watching.server_timeout, settings.watching.client_timeout = 240, 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.peering.standalone = True
    # Resources are not rescanned: the kinds are known, and RBAC may not let us look at the others.
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = 20
    return settings


async def _tick(health: Health) -> None:
    while True:
        health.ticked = time.monotonic()
        await asyncio.sleep(1)


# --------------------------------------------------------------------------------------------------------------- probes


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Probes come every few seconds."""


def serve(health: Health, host: str, port: int) -> WSGIServer:
    """`/livez`, `/readyz` and `/metrics`, in a thread: kopf ends whatever else runs in its loop."""
    metrics = make_wsgi_app(REGISTRY)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        problem = health.problem(time.monotonic()) if path in ("/livez", "/readyz") else "no such page"
        start("503 Service Unavailable" if problem else "200 OK", [("Content-Type", "text/plain")])
        return [(problem or ("leads" if health.leads else "waits for the Lease")).encode() + b"\n"]

    server = make_server(host, port, answer, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
