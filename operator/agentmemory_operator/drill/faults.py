"""What ``agentmemory drill`` can do to a cluster, and undoes: to pods of its own, and with leave to a node."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from agentmemory_operator.drill.cluster import KubectlFailed, Place
from agentmemory_operator.drill.course import DrillFailed

Fault = Callable[[], AbstractAsyncContextManager[None]]
_STARTED_S = 300


def pod(place: Place) -> Fault:
    """The pod that the writers speak through is killed, without time to end. Its Deployment makes another."""

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        names = await _pods(place)
        await _do(place, "delete", "pod", names[0], "--grace-period=0", "--force", "--wait=false")
        yield
        await _rolled_out(place)

    return fault


def region(place: Place, replicas: int) -> Fault:
    """All of the drill's agents in a region are killed and stay away: its clients find nobody there."""

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        names = await _pods(place)
        try:
            await _do(place, "scale", "deployment", place.name, "--replicas=0")
            await _do(place, "delete", "pod", *names, "--grace-period=0", "--force", "--wait=false")
            yield
        finally:
            await _do(place, "scale", "deployment", place.name, f"--replicas={replicas}")
        await _rolled_out(place)

    return fault


def drain(place: Place, node: str) -> Fault:
    """A node is drained, with everybody's pods on it, and given back. Budgets of pods are kept; it may so take long."""

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        try:
            await _do(
                place, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s", wait_s=310
            )
            yield
        finally:
            await _do(place, "uncordon", node)
        await _rolled_out(place)

    return fault


async def _pods(place: Place) -> list[str]:
    try:
        names = await place.pods()
    except KubectlFailed as error:
        raise DrillFailed(f"{place.region}: {error}") from None
    if not names:
        raise DrillFailed(f"{place.region}: no pod of the drill is ready")
    return names


async def _do(place: Place, *arguments: str, wait_s: float = 60.0) -> None:
    try:
        await place.kubectl.run("-n", place.namespace, *arguments, timeout_s=wait_s)
    except KubectlFailed as error:
        raise DrillFailed(f"{place.region}: {error}") from None


async def _rolled_out(place: Place) -> None:
    status: Sequence[str] = ("rollout", "status", f"deployment/{place.name}", f"--timeout={_STARTED_S}s")
    await _do(place, *status, wait_s=_STARTED_S + 10)
