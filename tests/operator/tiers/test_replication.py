"""Heartbeats between several regions of a strict AWS, under a clock of the test's own."""

import asyncio
from collections.abc import Callable
from typing import Any

import kubernetes.client
import pytest
from prometheus_client import REGISTRY

from agentmemory_operator.aws import Aws
from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.heartbeats import EVERY_S, KEPT_S, Heartbeats
from agentmemory_operator.kube import Cluster
from agentmemory_operator.plan.values import Condition
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers.dynamodb import DynamoDbTier
from tests.aws.front import Front, Mode
from tests.aws.tests.clients import Client
from tests.operator.tiers.driving import Driver
from tests.operator.tiers.test_dynamodb import TABLE, resource

EAST, WEST = "us-east-1", "us-west-2"
KEY = ("agents", "support")


class Process:
    """One operator: its tier, its heartbeats, and the time as it sees it."""

    def __init__(self, aws: Front, declared: dict[str, Any], cluster: str = "one") -> None:
        self.aws, self.now, self.woken = aws, 1000.0, 0
        self.stop: Callable[[], bool] = lambda: False
        self.calls = Aws(threads=4)
        self.heartbeats = Heartbeats(self.calls, self._wake, lambda: self.now, self._sleep)
        kube = Cluster(kubernetes.client.ApiClient())  # the resource names no Secret, so nothing is asked of it
        settings = Settings.model_validate({"cluster_name": cluster, "aws": {"dynamodbEndpoint": aws.url}})
        self.driver = Driver(lambda: DynamoDbTier(kube, self.calls, self.heartbeats), declared, settings)

    def _wake(self, namespace: str, name: str) -> None:
        assert (namespace, name) == KEY
        self.woken += 1

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0.001)  # what else runs comes to its turn
        if self.stop():
            raise asyncio.CancelledError
        if all(not link["lag"] for link in self.aws.links.shown()):
            await self.aws.links.settle()

    async def round(self) -> None:
        """The next one, when it is due."""
        begun = self.now
        await self.heartbeats.round(KEY)
        self.now = max(self.now, begun + EVERY_S)

    async def condition(self) -> Condition:
        await self.driver.cycle()
        return self.told()

    def told(self) -> Condition:
        """What the status says, written down as the operator does."""
        (found,) = (each for each in self.driver.last.conditions if each.type is ConditionType.REPLICATION_HEALTHY)
        row = {
            "type": str(found.type),
            "status": str(found.status),
            "reason": str(found.reason),
            "message": found.message,
        }
        self.driver.resource["status"]["conditions"].append(row)
        return found


@pytest.fixture
async def operator(aws: Front) -> Any:
    made = Process(aws, resource(EAST, WEST))
    await made.driver.settle()
    yield made
    aws.links.set(lag_s=0)
    made.heartbeats.forget(KEY)
    await made.calls.close()


def metric(name: str, **labels: str) -> float | None:
    names = {"namespace": KEY[0], "name": KEY[1], **labels}
    return REGISTRY.get_sample_value(f"agentmemory_operator_{name}", names)


def lag(here: str, there: str) -> float | None:
    return metric("replication_lag_seconds", from_region=here, to_region=there)


async def items(aws: Front, region: str) -> dict[str, dict[str, Any]]:
    found = (await Client(aws, "dynamodb", region).scan(TableName=TABLE))["Items"]
    assert {item["pk"]["S"] for item in found} <= {"ping"}
    return {item["sk"]["S"]: item for item in found}


async def test_each_region_gets_a_heartbeat_that_expires_and_the_others_show_it(aws: Front, operator: Process) -> None:
    first = await operator.condition()
    assert (first.status, first.reason) == (None, Reason.PROGRESSING)
    await operator.round()
    assert operator.woken == 1
    found = await operator.condition()
    assert (found.status, found.reason, found.message) == (True, Reason.READY, "")
    assert operator.driver.last.again_s is None
    for region in (EAST, WEST):
        there = await items(aws, region)
        assert set(there) == {EAST, WEST}
        assert {item["number"]["N"] for item in there.values()} == {"1"}
        assert all(int(item["expires"]["N"]) - int(float(item["at"]["N"])) == KEPT_S for item in there.values())
    assert (lag(EAST, WEST), lag(WEST, EAST), metric("rpo_seconds")) == (1.0, 1.0, 1.0)
    await operator.round()
    assert operator.woken == 1  # nothing that the status would say has changed
    assert set(await items(aws, EAST)) == {EAST, WEST}


async def test_a_lag_makes_it_unhealthy_without_following_it_and_its_end_makes_it_well(
    aws: Front, operator: Process
) -> None:
    await operator.round()
    aws.links.set(EAST, WEST, lag_s=1000)
    await operator.round()
    assert (await operator.condition()).status is True
    await operator.round()
    found = await operator.condition()
    assert (found.status, found.reason) == (False, Reason.REPLICATION_LAGGING)
    assert f"from {EAST} to {WEST}" in found.message
    assert f"from {WEST}" not in found.message
    assert "docs/regions.md" in found.message
    woken = operator.woken
    for _ in range(3):
        await operator.round()
        assert await operator.condition() == found
    assert operator.woken == woken
    behind = lag(EAST, WEST)
    assert behind is not None
    assert behind > 4 * EVERY_S
    assert metric("rpo_seconds") == behind
    assert lag(WEST, EAST) == 1.0
    aws.links.set(lag_s=0)
    await operator.round()
    assert operator.woken == woken + 1
    assert (await operator.condition()).status is True
    assert metric("rpo_seconds") == 1.0


@pytest.mark.parametrize("mode", ["refuse", "error"])
async def test_a_region_that_does_not_answer_is_named_and_comes_back(aws: Front, operator: Process, mode: Mode) -> None:
    await operator.round()
    aws.reach(WEST, mode)
    for _ in range(3):
        await operator.round()
        found = await operator.condition()
        assert (found.status, found.reason) == (False, Reason.REGION_UNREACHABLE)
        assert f"endpoint of {WEST} does not answer" in found.message
        assert EAST not in found.message
    behind = metric("rpo_seconds")
    assert behind is not None
    assert behind > EVERY_S  # what the east has written is not known to be anywhere else
    aws.reach(WEST, "ok")
    await operator.round()
    await operator.round()
    assert (await operator.condition()).status is True


async def test_an_operator_that_takes_over_goes_on_with_what_was_said(aws: Front, operator: Process) -> None:
    await operator.round()
    aws.links.set(EAST, WEST, lag_s=1000)
    await operator.round()
    await operator.round()
    said = await operator.condition()
    assert said.reason is Reason.REPLICATION_LAGGING
    other = Process(aws, operator.driver.resource)
    assert await other.condition() == said
    await other.round()
    assert await other.condition() == said  # too early to say anything else
    aws.links.set(lag_s=0)
    await other.round()
    await other.round()
    assert (await other.condition()).status is True
    other.heartbeats.forget(KEY)
    await other.calls.close()


@pytest.mark.parametrize(
    ("spec", "cluster", "reason"),
    [
        ({"managementPolicy": "ObserveOnly"}, "one", Reason.OBSERVE_ONLY),
        ({}, "two", Reason.MANAGED_ELSEWHERE),
    ],
)
async def test_who_may_only_look_writes_no_heartbeat(
    aws: Front, operator: Process, spec: dict[str, Any], cluster: str, reason: Reason
) -> None:
    looker = Process(aws, resource(EAST, WEST, spec=spec), cluster)
    found = await looker.condition()
    assert (found.status, found.reason) == (None, reason)
    await looker.round()
    assert await items(aws, EAST) == {}
    await looker.calls.close()


async def test_one_region_and_strong_tables_have_no_such_condition(aws: Front) -> None:
    for declared in (resource(EAST), resource(EAST, WEST, consistency="Strong", witnessRegion="us-east-2")):
        await aws.reset()
        process = Process(aws, declared)
        await process.driver.settle()
        await process.round()
        assert [each.type for each in process.driver.last.conditions] == [ConditionType.STATE_READY]
        assert await items(aws, EAST) == {}
        await process.calls.close()


async def test_a_resource_that_goes_takes_its_heartbeats_and_metrics_with_it(aws: Front, operator: Process) -> None:
    await operator.round()
    assert metric("rpo_seconds") is not None
    await operator.driver.cycle(leaving=True)
    assert (metric("rpo_seconds"), lag(EAST, WEST)) == (None, None)
    before = await items(aws, EAST)
    await operator.round()
    assert await items(aws, EAST) == before


async def test_rounds_come_as_they_are_due_and_end_when_nobody_looks_any_more(aws: Front, operator: Process) -> None:
    begun = operator.now
    operator.stop = lambda: aws.written[TABLE] >= 6
    with pytest.raises(asyncio.CancelledError):
        await operator.heartbeats.watch()
    assert aws.written[TABLE] == 6
    assert operator.now - begun >= 2 * EVERY_S

    operator.now += 2 * operator.driver.settings.resync.seconds + 1000
    operator.stop = lambda: metric("rpo_seconds") is None
    with pytest.raises(asyncio.CancelledError):
        await operator.heartbeats.watch()
    assert aws.written[TABLE] == 6
