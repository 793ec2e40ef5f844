"""Whole cycles against a real API server: what they make, that they are idempotent, and that a kill at any effect is
made good by the next one."""

import base64
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from agentmemory_operator import names
from agentmemory_operator.app import store_tiers
from agentmemory_operator.cycle import Fault, World, cycle, leave
from agentmemory_operator.kube import (
    AGENTMEMORY,
    EVENT,
    NAMESPACE,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Cluster,
    Object,
)
from agentmemory_operator.settings import Settings
from agentmemory_sidecar.resource.mounted import KEY, Mounted

pytestmark = pytest.mark.cluster

SETTINGS = Settings.model_validate({"images": {"stores": "never-pulled:test"}})
MADE = (SECRET, SERVICE, STATEFUL_SET)


class Killed(BaseException):
    """The operator's process ends here."""


def resource(namespace: str, name: str = "quick", **spec: Any) -> Object:
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def world(kube: Cluster, fault: Fault = lambda effect: None) -> World:
    return World(kube, SETTINGS, store_tiers(kube), fault=fault)


async def settle(kube: Cluster, namespace: str, name: str = "quick") -> list[str]:
    """Cycles until one has no effect. Returns the effects there were."""
    effects: list[str] = []
    for _ in range(10):
        before = len(effects)
        await cycle(world(kube, effects.append), namespace, name)
        if len(effects) == before:
            return effects
    raise AssertionError(f"never settles: {effects[-6:]}")


async def made(kube: Cluster, namespace: str) -> dict[tuple[str, str], Any]:
    """What is there, without what chance or the API server put in."""
    found = {}
    for kind in MADE:
        for item in await kube.list(kind, namespace):
            if item["metadata"].get("labels", {}).get(names.MANAGED_BY) == names.FIELD_MANAGER:
                content = sorted(item["data"]) if kind is SECRET else item["spec"]
                found[kind.kind, item["metadata"]["name"]] = _without_addresses(content)
    return found


def _without_addresses(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: value for key, value in content.items() if key not in ("clusterIP", "clusterIPs")}
    return content


async def revisions(kube: Cluster, namespace: str) -> dict[tuple[str, str], str]:
    kinds = (AGENTMEMORY, EVENT, *MADE)
    return {
        (kind.kind, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
        for kind in kinds
        for item in await kube.list(kind, namespace)
        if kind is not EVENT or item.get("reportingController") == "agentmemory.io/operator"
    }


async def configured(kube: Cluster, namespace: str, name: str = "quick") -> None:
    """Say what the StatefulSet's controller would say if the image could be pulled, until a cycle has seen it."""
    stores = f"{name}-stores"
    live = await kube.get(STATEFUL_SET, namespace, stores)
    assert live
    status = {
        "replicas": 1,
        "readyReplicas": 1,
        "updatedReplicas": 1,
        "observedGeneration": live["metadata"]["generation"],
    }
    while await kube.get(SECRET, namespace, names.config_secret(name)) is None:  # its controller takes it back
        await kube.patch(STATEFUL_SET, namespace, stores, {"status": status}, subresource="status")
        await cycle(world(kube), namespace, name)


@pytest.fixture
async def quick(kube: Cluster, namespace: str) -> str:
    await kube.apply(resource(namespace))
    return namespace


async def test_embedded_tiers_are_made_and_reported(kube: Cluster, quick: str) -> None:
    await settle(kube, quick)
    found = await kube.get(AGENTMEMORY, quick, "quick")
    assert found
    by_type = {row["type"]: row for row in found["status"]["conditions"]}
    assert by_type["Ready"]["status"] == "Unknown"
    assert by_type["NotForProduction"]["status"] == "True"
    assert {kind for kind, _ in await made(kube, quick)} == {"Secret", "Service", "StatefulSet"}


async def test_a_sidecar_in_any_region_can_read_what_is_written(kube: Cluster, quick: str) -> None:
    await settle(kube, quick)
    await configured(kube, quick)
    for name in (names.config_secret("quick"), names.DEFAULT_CONFIG_SECRET):
        secret = await kube.get(SECRET, quick, name)
        assert secret
        config = Mounted.loads(_decoded(secret, KEY)).choose("us-east-1")
        assert config.tenant == quick
        assert config.key_master
        assert not config.embedded


def _decoded(secret: Object, key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()


async def test_two_resources_of_a_namespace_are_candidates(kube: Cluster, quick: str) -> None:
    await kube.apply(resource(quick, "other"))
    for name in ("quick", "other"):
        await settle(kube, quick, name)
        await configured(kube, quick, name)
    secret = await kube.get(SECRET, quick, names.DEFAULT_CONFIG_SECRET)
    assert secret
    assert Mounted.loads(_decoded(secret, KEY)).candidates == ("other", "quick")


async def test_an_idle_operator_writes_nothing(kube: Cluster, quick: str) -> None:
    await settle(kube, quick)
    before = await revisions(kube, quick)
    for _ in range(3):
        await cycle(world(kube), quick, "quick")
    assert await revisions(kube, quick) == before


async def test_drift_is_repaired_and_reported(kube: Cluster, quick: str) -> None:
    await settle(kube, quick)
    wanted = await made(kube, quick)
    await kube.patch(STATEFUL_SET, quick, "quick-stores", {"spec": {"replicas": 0}})
    await kube.patch(SERVICE, quick, "quick-stores", [{"op": "replace", "path": "/spec/ports/0/port", "value": 6380}])
    await cycle(world(kube), quick, "quick")
    found = await kube.get(AGENTMEMORY, quick, "quick")
    assert found
    drift = next(row for row in found["status"]["conditions"] if row["type"] == "DriftDetected")
    assert drift["status"] == "True"
    assert "/spec/replicas" in drift["message"]
    await settle(kube, quick)
    assert await made(kube, quick) == wanted


def kills() -> Iterator[tuple[int, Fault]]:
    """A fault at the first effect's beginning, at its end, at the second's beginning, and so on."""
    for number in count():
        passed = 0

        def fault(effect: str, number: int = number) -> None:
            nonlocal passed
            passed += 1
            if passed > number:
                raise Killed(effect)

        yield number, fault


async def test_a_kill_at_any_effect_is_made_good(kube: Cluster, namespace: str) -> None:
    await kube.apply(resource(namespace))
    await settle(kube, namespace)
    wanted = await made(kube, namespace)
    for number, fault in kills():
        other = f"{namespace}-{number}"
        await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
        try:
            await kube.apply(resource(other))
            try:
                await cycle(world(kube, fault), other, "quick")
            except Killed:
                await settle(kube, other)
                assert await made(kube, other) == wanted
                continue
            assert number >= 6  # passwords, service, set: each before and after
            return
        finally:
            await kube.delete(NAMESPACE, "", other)


@pytest.mark.parametrize(
    ("policy", "kept"), [("Retain", {"quick-stores", "agentmemory-keys-quick"}), ("Delete", set())]
)
async def test_leaving_keeps_what_must_stay(kube: Cluster, namespace: str, policy: str, kept: set[str]) -> None:
    await kube.apply(resource(namespace, deletionPolicy=policy))
    await settle(kube, namespace)
    await configured(kube, namespace)
    while await leave(world(kube), namespace, "quick"):
        pass
    assert {name for kind, name in await made(kube, namespace) if kind == "Secret"} - {
        names.DEFAULT_CONFIG_SECRET
    } == kept
    assert not {kind for kind, _ in await made(kube, namespace)} - {"Secret"}


async def said(kube: Cluster, namespace: str, reason: str) -> list[str]:
    return [item["note"] for item in await kube.list(EVENT, namespace) if item["reason"] == reason]


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ({"deletionPolicy": "Retain"}, True),
        ({"deletionPolicy": "Delete"}, False),
        ({"deletionPolicy": "Delete", "managementPolicy": "ObserveOnly"}, True),
    ],
)
async def test_a_deletion_tells_what_stays(kube: Cluster, namespace: str, spec: dict[str, str], kept: bool) -> None:
    await kube.apply(resource(namespace, **spec))
    await settle(kube, namespace)
    while await leave(world(kube), namespace, "quick"):
        pass
    assert len(await said(kube, namespace, "Retained")) == kept


async def test_an_operator_that_may_only_look_says_what_it_leaves_undone(kube: Cluster, namespace: str) -> None:
    await kube.apply(resource(namespace, managementPolicy="ObserveOnly"))
    assert await settle(kube, namespace) == []
    found = await kube.get(AGENTMEMORY, namespace, "quick")
    assert found
    rows = {row["type"]: row for row in found["status"]["conditions"]}
    assert (rows["StateReady"]["status"], rows["StateReady"]["reason"]) == ("False", "ObserveOnly")
    assert f"apply StatefulSet {namespace}/quick-stores" in rows["StateReady"]["message"]


async def test_a_resource_that_only_python_can_refuse_is_a_condition(kube: Cluster, namespace: str) -> None:
    await kube.apply(
        resource(namespace, state={"postgres": {"dsnFrom": {"secretKeyRef": {"name": "db", "key": "dsn"}}}})
    )
    await cycle(world(kube), namespace, "quick")
    found = await kube.get(AGENTMEMORY, namespace, "quick")
    assert found
    row = next(row for row in found["status"]["conditions"] if row["type"] == "Configured")
    assert (row["status"], row["reason"]) == ("False", "SecretMissing")
    assert "there is no Secret db" in row["message"]
