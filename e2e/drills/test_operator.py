"""The operator itself: one leads, the other takes over, and neither writes without need."""

import json

from e2e.cluster.agents import apply, memory, pods, ready
from e2e.cluster.install import SYSTEM
from e2e.cluster.shell import kubectl, kubectl_json, node_kill
from e2e.cluster.wait import until

SELECTOR = "agentmemory.io/component=operator"
LEASE = "agentmemory-operator"
TAKEOVER_S, RECONCILED_S = 20, 40


def quick(namespace: str, name: str) -> dict[str, object]:
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {},
    }


async def holder() -> str:
    lease = await kubectl_json("-n", SYSTEM, "get", "lease", LEASE)
    return str(lease["spec"].get("holderIdentity", ""))


async def test_the_second_replica_takes_over_from_a_killed_leader(namespace: str) -> None:
    async def led_by(names: set[str]) -> str:
        found = await holder()
        return found if any(found.startswith(name) for name in names) else ""

    names = {pod["metadata"]["name"] for pod in await pods(SYSTEM, SELECTOR)}
    assert len(names) == 2
    leader = await until("a leader", lambda: led_by(names), timeout_s=60)
    await node_kill(SYSTEM, next(name for name in names if leader.startswith(name)), "agentmemory operator")
    await apply(quick(namespace, "after"))

    async def another() -> str:
        found = await holder()
        return found if found and found != leader else ""

    await until("another holder of the Lease", another, timeout_s=TAKEOVER_S, every_s=0.5)

    async def looked_at() -> dict[str, str]:
        return await memory(namespace, "after")

    await until("the new leader to have looked at the resource", looked_at, timeout_s=RECONCILED_S - TAKEOVER_S)
    await ready(namespace, "after", timeout_s=180)


async def test_an_idle_operator_writes_nothing_but_its_lease(namespace: str) -> None:
    await apply(quick(namespace, "idle"))
    await ready(namespace, "idle", timeout_s=180)

    async def versions() -> dict[str, str]:
        kinds = "agentmemories,secrets,services,statefulsets,persistentvolumeclaims"
        found = await kubectl_json("-n", namespace, "get", kinds)
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in found["items"]
        }

    before = await versions()
    # What makes the operator look again: a touch of its own child that changes nothing that it keeps.
    touch = json.dumps({"metadata": {"annotations": {"drill": "touched"}}})
    for pod in await pods(namespace, "app.kubernetes.io/name=agentmemory-stores"):
        await kubectl("-n", namespace, "patch", "pod", pod["metadata"]["name"], "-p", touch)
    await until_quiet()
    assert await versions() == before


async def until_quiet() -> None:
    """Two renewals of the Lease: the operator has had its turn."""

    async def renewed() -> str:
        lease = await kubectl_json("-n", SYSTEM, "get", "lease", LEASE)
        return str(lease["spec"]["renewTime"])

    for _ in range(3):
        first = await renewed()

        async def moved(first: str = first) -> bool:
            return await renewed() != first

        await until("a renewal", moved, timeout_s=20)
