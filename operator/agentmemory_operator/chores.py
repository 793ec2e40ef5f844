"""What a leader does beside the resources: it keeps the webhook's certificate, and looks for pods that went without."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge

from agentmemory_operator import certificates
from agentmemory_operator.cycle import World
from agentmemory_operator.inject.watchdog import uninjected
from agentmemory_operator.kube import NAMESPACE, POD, KubeError, KubeUnreachable, Object
from agentmemory_operator.names import INJECT
from agentmemory_operator.report import events

log = logging.getLogger(__name__)

WATCH_S = 60.0
UNINJECTED = Gauge("agentmemory_operator_uninjected_pods", "Pods that ask for the sidecar and run without it.")


async def keep_certificates(world: World) -> None:
    """For ever; where the certificate is somebody else's, at once no more."""
    if world.settings.webhook.certificates == "Builtin":
        await _again_and_again(
            "the webhook's certificate", certificates.CHECK_EVERY.total_seconds(), lambda: _keep(world)
        )


async def _keep(world: World) -> None:
    for done in await certificates.keep(world.kube, world.settings, world.now()):
        log.info("webhook: %s", done)


async def watch_uninjected(world: World) -> None:
    """For ever: an event for each pod that asks for the sidecar and runs without it, and their number as a metric."""
    told: set[str] = set()
    await _again_and_again("pods without their sidecar", WATCH_S, lambda: _watch(world, told))


async def _watch(world: World, told: set[str]) -> None:
    """One look. ``told`` are the uids that had their event; those of pods that are gone are taken out."""
    namespaces = await world.kube.list(NAMESPACE, labels=f"{INJECT}=true")
    labelled = frozenset(item["metadata"]["name"] for item in namespaces)
    pods: dict[str, Object] = {}
    for served in world.settings.namespaces or ("",):
        pods |= {pod["metadata"]["uid"]: pod for pod in await world.kube.list(POD, served, labels=f"{INJECT}=true")}
    for namespace in labelled.intersection(world.settings.namespaces or labelled):
        pods |= {pod["metadata"]["uid"]: pod for pod in await world.kube.list(POD, namespace)}
    found = uninjected(pods.values(), labelled)
    UNINJECTED.set(len(found))
    for finding in found:
        if finding.uid not in told:
            told.add(finding.uid)
            note = events.event(
                pods[finding.uid], "Warning", "SidecarMissing", finding.message, action="Watch", now=world.now()
            )
            await events.post(world.kube, note)
    told &= {finding.uid for finding in found}


async def _again_and_again(what: str, every_s: float, look: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await look()
        except (KubeError, KubeUnreachable) as error:
            log.warning("%s: %s", what, error)
        except Exception:
            log.exception("%s: a defect of ours; trying again", what)
        await asyncio.sleep(every_s)
