"""The tier's objects on a real API server. The servers themselves: tests/operator/act/test_redis.py, and e2e."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmemory_operator.conditions import Reason
from agentmemory_operator.kube import POD_DISRUPTION_BUDGET, SECRET, SERVICE, STATEFUL_SET, VOLUME_CLAIM, Cluster
from agentmemory_operator.plan.values import Apply
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers.redis import RedisTier
from tests.operator.tiers.driving import Driver, Killed, manifest

pytestmark = pytest.mark.cluster

REGION = "nowhere-1"
"""A region without a node, so that no pod starts."""
NAME = f"support-redis-{REGION}"


@pytest.fixture
async def driver(kube: Cluster, namespace: str) -> AsyncIterator[Driver]:
    spec: dict[str, Any] = {
        "regions": [REGION],
        "ephemeral": {"redis": {"managed": {}}},
        "session": {"identity": {"headers": ["X-Agent-Session"]}},
        "deletionPolicy": "Delete",
    }
    # Nodes of the cluster are labelled or not: with a selector of its own no pod of this test is scheduled anywhere.
    spec["ephemeral"]["redis"]["managed"]["nodeSelector"] = {"agentmemory.io/no-such-node": "true"}
    made = Driver(lambda: RedisTier(kube), manifest(spec, namespace=namespace), Settings())
    yield made
    await made.tier.close()


async def objects(kube: Cluster, namespace: str) -> dict[str, list[str]]:
    kinds = (STATEFUL_SET, POD_DISRUPTION_BUDGET, SERVICE, SECRET)
    found = {kind.kind: await kube.list(kind, namespace) for kind in kinds}
    return {kind: sorted(row["metadata"]["name"] for row in rows) for kind, rows in found.items()}


WHOLE = {
    "StatefulSet": [f"{NAME}-0", f"{NAME}-1", f"{NAME}-2"],
    "PodDisruptionBudget": [f"{NAME}-0", f"{NAME}-1", f"{NAME}-2"],
    "Service": [NAME],
    "Secret": [NAME, f"{NAME}-keys"],
}


def again(driver: Driver) -> Driver:
    """The next operator's."""
    return Driver(driver.make, driver.resource, driver.settings)


async def settled(driver: Driver) -> None:
    for _ in range(5):
        if not (await driver.cycle()).actions:
            return
    raise AssertionError(driver.last.actions)


async def test_makes_what_is_missing_repairs_what_differs_and_then_writes_nothing(
    driver: Driver, kube: Cluster, namespace: str
) -> None:
    await settled(driver)
    assert await objects(kube, namespace) == WHOLE
    (condition,) = driver.last.conditions
    assert (condition.status, condition.reason) == (None, Reason.CREATING)
    assert driver.last.provides == {}

    await kube.patch(STATEFUL_SET, namespace, f"{NAME}-1", {"spec": {"replicas": 1}})
    await kube.delete(SERVICE, namespace, NAME)
    plan = await driver.cycle()
    assert plan.drift == (f"StatefulSet {NAME}-1: /spec/replicas",)
    assert [action.describe().split()[1] for action in plan.actions if isinstance(action, Apply)] == [
        "Service",
        "StatefulSet",
    ]
    await settled(driver)
    assert await objects(kube, namespace) == WHOLE


@pytest.mark.parametrize("kill_after", range(10))
async def test_killed_after_any_action_the_next_operator_comes_to_the_same(
    driver: Driver, kube: Cluster, namespace: str, kill_after: int
) -> None:
    with pytest.raises(Killed):
        await driver.settle(kill_after=kill_after)
    driver = again(driver)
    secret = await kube.get(SECRET, namespace, f"{NAME}-keys")
    await settled(driver)
    assert await objects(kube, namespace) == WHOLE
    after = await kube.get(SECRET, namespace, f"{NAME}-keys")
    assert secret is not None
    assert after is not None
    assert after["data"] == secret["data"], "passwords are made once"


async def test_leaves_with_everything_or_keeps_volumes_and_secrets(
    driver: Driver, kube: Cluster, namespace: str
) -> None:
    await settled(driver)
    async with asyncio.timeout(60):  # the volumes are made by another controller
        while len(await kube.list(VOLUME_CLAIM, namespace)) < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    driver.resource["spec"]["deletionPolicy"] = "Retain"
    for _ in range(60):
        if (await driver.cycle(leaving=True)).again_s is None:
            break
    kept = await objects(kube, namespace)
    assert kept == {"StatefulSet": [], "PodDisruptionBudget": [], "Service": [], "Secret": WHOLE["Secret"]}
    assert len(await kube.list(VOLUME_CLAIM, namespace)) == 6

    # Made again, it finds what it left; then all of it goes.
    driver = again(driver)
    before = await kube.get(SECRET, namespace, f"{NAME}-keys")
    await settled(driver)
    assert await kube.get(SECRET, namespace, f"{NAME}-keys") == before
    driver.resource["spec"]["deletionPolicy"] = "Delete"
    for _ in range(60):
        if (await driver.cycle(leaving=True)).again_s is None:
            break
    assert await objects(kube, namespace) == {kind: [] for kind in WHOLE}
    claims = await kube.list(VOLUME_CLAIM, namespace)
    assert all(claim["metadata"].get("deletionTimestamp") for claim in claims)
