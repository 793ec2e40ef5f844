"""The loops of an operator that leads: one for each resource, woken by its children, and what happens at its deletion."""

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Any, Protocol

import kopf
from prometheus_client import Counter, Gauge

from agentmemory_operator import names
from agentmemory_operator.cycle import SOON_S, World, cycle, leave
from agentmemory_operator.kube import KubeError, KubeUnreachable
from agentmemory_operator.wake import Sleepers

log = logging.getLogger(__name__)

TOGETHER = 8
"""How many resources are looked at at once: a restart with hundreds of them must not flood the API server."""
LOOPS = Gauge("agentmemory_operator_resources", "Resources that this process attends to.")
CYCLES = Counter("agentmemory_operator_cycles", "Looks at a resource, with all that followed from them.", ["outcome"])


class Stopped(Protocol):
    """kopf's flag, as far as it is used."""

    def __bool__(self) -> bool: ...


class Operating:
    """What the handlers call."""

    def __init__(self, world: World, sleepers: Sleepers) -> None:
        self._world, self._sleepers = world, sleepers
        self._together = asyncio.Semaphore(TOGETHER)

    def login(self, **kwargs: Any) -> kopf.ConnectionInfo | None:
        """In a pod as its service account, else as the kubeconfig says."""
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    async def attend(self, namespace: str, name: str, stopped: Stopped) -> None:
        """Look at a resource again and again, for as long as it is there."""
        key = self._sleepers.key(namespace, name)
        self._sleepers.begin(key)
        LOOPS.inc()
        try:
            while not stopped:
                wait_s = await self._look(namespace, name)
                await self._sleepers.sleep(key, wait_s)
        finally:
            LOOPS.dec()
            self._sleepers.end(key)

    async def _look(self, namespace: str, name: str) -> float:
        """One cycle. Whatever goes wrong in it is tried again a little later."""
        outcome = "done"
        try:
            async with self._together:
                wait_s = await cycle(self._world, namespace, name)
        except (KubeError, KubeUnreachable) as error:
            log.warning("%s/%s: %s", namespace, name, error)
            wait_s, outcome = SOON_S, "refused"
        except Exception:
            log.exception("%s/%s: a defect of ours ended this cycle", namespace, name)
            wait_s, outcome = 3 * SOON_S, "defect"
        CYCLES.labels(outcome).inc()
        return wait_s * random.uniform(0.9, 1.1)  # noqa: S311

    async def let_go(self, namespace: str, name: str) -> None:
        """One step of a deletion; kopf keeps the finalizer and calls again while something stands in the way."""
        try:
            async with self._together:
                waiting = await leave(self._world, namespace, name)
        except (KubeError, KubeUnreachable) as error:
            raise kopf.TemporaryError(str(error), delay=SOON_S) from error
        if waiting:
            raise kopf.TemporaryError("; ".join(waiting), delay=2)

    def neighbour(self, namespace: str, event: Mapping[str, Any]) -> None:
        """A resource came, changed or went."""
        changed = event.get("object", {}).get("metadata", {})
        self._sleepers.wake(namespace, names.label(changed.get("name", "")))
        if event.get("type") in ("ADDED", "DELETED") or changed.get("deletionTimestamp"):
            self._sleepers.wake_namespace(namespace)

    def child(self, namespace: str, labels: Mapping[str, str]) -> None:
        """Something that the operator made has changed."""
        self._sleepers.wake(namespace, labels.get(names.RESOURCE, ""))
