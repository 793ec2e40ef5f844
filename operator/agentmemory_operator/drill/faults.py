"""What ``agentmemory drill`` can do to a cluster, and undoes: to pods of its own, and with leave to a node and to stores."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from agentmemory_operator.drill.cluster import KubectlFailed, Place, is_ready
from agentmemory_operator.drill.course import DrillFailed
from agentmemory_operator.drill.line import FREEZE, Line, Lost, Rotation

Fault = Callable[[], AbstractAsyncContextManager[None]]
STARTED_S = 300
RESUMED_S = 15.0
"""How long the end of a pause may take."""
CLOCK_ERROR_S = 3.0
"""How well a sidecar's clock is known from outside, where its answers tell whole seconds."""


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
            # In this order: a pod that is ending already, because its Deployment lets it go, ends in its own time, however
            # it is deleted then, and serves until it has.
            await _do(place, "delete", "pod", *names, "--grace-period=0", "--force", "--wait=false")
            await _do(place, "scale", "deployment", place.name, "--replicas=0")
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


def pause(place: Place, longest_s: float) -> Fault:
    """Every process in the pods of a region's agents stops where it is, and later goes on from there: after ``longest_s`` by
    itself, should nobody be there to let it."""

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        lines = {pod: place.script(pod, FREEZE, str(longest_s)) for pod in await _pods(place)}
        try:
            for pod, line in lines.items():
                await _frozen(place, pod, line)
            yield
        finally:
            ended = await asyncio.gather(*(line.end(RESUMED_S) for line in lines.values()), return_exceptions=True)
            for pod, error in zip(lines, ended, strict=True):
                if isinstance(error, BaseException):
                    raise DrillFailed(
                        f"{place.region}: {pod} may still stand: {error}; it goes on after {longest_s:.0f} s"
                    )
        await _rolled_out(place)

    return fault


async def _frozen(place: Place, pod: str, line: Line) -> None:
    try:
        await line.open(RESUMED_S)
    except Lost as error:
        raise DrillFailed(f"{place.region}: {pod}: {error}") from None
    if "failed" in line.first:
        raise DrillFailed(f"{place.region}: {pod} cannot be paused: {line.first['failed']}")


def cold(places: Sequence[Place], stores: Mapping[Place, Sequence[Mapping[str, Any]]]) -> Fault:
    """All agents, and the pods of their stores, are ended at once, with a second to do it; what made them makes others."""

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        before = {place: [pod["metadata"] for pod in pods] for place, pods in stores.items()}
        ended = [(place, [meta["name"] for meta in metas]) for place, metas in before.items()]
        ended += [(place, await _pods(place)) for place in places]
        quickly = ("--grace-period=1", "--wait=false")
        await asyncio.gather(*(_do(place, "delete", "pod", *names, *quickly) for place, names in ended))
        yield
        for place in places:
            await _rolled_out(place)
        for place, metas in before.items():
            await _back(place, metas)

    return fault


async def _back(place: Place, before: Sequence[Mapping[str, Any]]) -> None:
    """Wait for as many pods with the same owners as there were, all of them new."""
    owners = {owner["uid"] for meta in before for owner in meta.get("ownerReferences", ())}
    gone = {meta["uid"] for meta in before}
    end = time.monotonic() + STARTED_S
    ready: list[Mapping[str, Any]] = []
    while time.monotonic() < end:
        try:
            found = await place.kubectl.json("-n", place.namespace, "get", "pods")
        except KubectlFailed as error:
            raise DrillFailed(f"{place.region}: {error}") from None
        ready = [
            pod
            for pod in found["items"]
            if is_ready(pod)
            and pod["metadata"]["uid"] not in gone
            and owners & {owner["uid"] for owner in pod["metadata"].get("ownerReferences", ())}
        ]
        if len(ready) >= len(before):
            return
        await asyncio.sleep(1)
    raise DrillFailed(f"{place.region}: of {len(before)} pods of stores {len(ready)} are back after {STARTED_S} s")


def clock(off: Mapping[Place, float], ways: Sequence[Rotation], probe_port: int) -> Fault:
    """Requests go by turns through sidecars whose clocks are off by so many seconds, and through one that is right."""

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        for place, by_s in off.items():
            await _is_off(place, by_s, probe_port)
        right = [way.lines for way in ways]
        opened: list[Line] = []
        try:
            for way, lines in zip(ways, right, strict=True):
                others = [place.line() for place in off]
                opened += others
                way.use(*(each for other in others for each in (other, *lines)))
            yield
        finally:
            for way, lines in zip(ways, right, strict=True):
                way.use(*lines)
            for line in opened:
                await line.close()

    return fault


async def _is_off(place: Place, by_s: float, probe_port: int) -> None:
    try:
        found = await place.clock_s(probe_port)
    except KubectlFailed as error:
        raise DrillFailed(f"{place.region}: {error}") from None
    if abs(found - by_s) > CLOCK_ERROR_S:
        raise DrillFailed(f"{place.region}: the clock of {place.name} is {found:.0f} s off, and not {by_s:.0f} s")


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
    status: Sequence[str] = ("rollout", "status", f"deployment/{place.name}", f"--timeout={STARTED_S}s")
    await _do(place, *status, wait_s=STARTED_S + 10)
