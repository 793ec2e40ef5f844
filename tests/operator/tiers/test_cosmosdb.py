"""The real tier, with Azure's own client, against a strict account."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmemory_operator.kube import Cluster
from agentmemory_operator.tiers import TierFailed
from agentmemory_operator.tiers.cosmosdb import CosmosDbTier
from agentmemory_sidecar.layout.cosmosdb import container_definition
from tests.cosmos import CosmosAccount
from tests.operator.tiers.driving import Driver, Killed, manifest
from tests.operator.tiers.secrets import Secrets, cluster


@pytest.fixture
async def account() -> AsyncIterator[CosmosAccount]:
    async with CosmosAccount() as made:
        yield made


@pytest.fixture
def secrets(account: CosmosAccount) -> Secrets:
    return {"azure": {"key": account.key}}


@pytest.fixture
async def kube(secrets: Secrets) -> AsyncIterator[Cluster]:
    async with cluster(secrets) as client:
        yield client


def driver(kube: Cluster, account: CosmosAccount, *regions: str, **more: Any) -> Driver:
    declared = {
        "endpoint": account.url,
        "keyFrom": {"secretKeyRef": {"name": "azure", "key": "key"}},
        "database": "memory",
        "container": "states",
        **more,
    }
    state = {"cosmosdb": {name: value for name, value in declared.items() if value is not None}}
    return Driver(lambda: CosmosDbTier(kube), manifest({"regions": list(regions or ("east",)), "state": state}))


async def test_database_and_container_are_made_once(kube: Cluster, account: CosmosAccount) -> None:
    operator = driver(kube, account, "east", "west", maxThroughput=4000)
    await operator.settle()
    made = account.databases["memory"]["states"]
    wanted = container_definition()
    assert (made["partitionKey"]["paths"], made["defaultTtl"]) == (["/agentmemory"], -1)
    assert made["indexingPolicy"] == wanted["indexingPolicy"]
    assert account.throughput == {"states": 4000}
    assert len(operator.effects) == 2
    assert (operator.condition.status, operator.condition.reason) == (True, "Ready")
    account.changes.clear()
    await operator.cycle()
    assert account.changes == []


@pytest.mark.parametrize("number", [0, 1])
async def test_killed_after_any_action_the_next_operator_comes_to_the_same(
    kube: Cluster, account: CosmosAccount, number: int
) -> None:
    with pytest.raises(Killed):
        await driver(kube, account).settle(kill_after=number)
    await driver(kube, account).settle()
    assert list(account.databases["memory"]) == ["states"]


async def test_an_expiry_that_would_delete_what_must_stay_is_set_back(kube: Cluster, account: CosmosAccount) -> None:
    operator = driver(kube, account)
    await operator.settle()
    live = account.databases["memory"]["states"]
    before = dict(live)
    live["defaultTtl"] = 3600
    await operator.settle()
    assert account.databases["memory"]["states"] == before


async def test_a_container_of_another_kind_is_left_alone(kube: Cluster, account: CosmosAccount) -> None:
    other = {"id": "states", "partitionKey": {"paths": ["/id"], "kind": "Hash"}}
    account.databases["memory"] = {"states": other}
    operator = driver(kube, account)
    await operator.settle()
    assert (operator.condition.reason, account.changes) == ("ForeignObject", [])
    assert "its partition key is /id, not /agentmemory" in operator.condition.message
    await operator.settle(leaving=True)
    assert account.databases["memory"] == {"states": other}


async def test_a_wrong_key_is_told_so_and_not_shown(kube: Cluster, account: CosmosAccount, secrets: Secrets) -> None:
    operator = driver(kube, account)
    for key in ("d3JvbmcgYnV0IGxvbmcgZW5vdWdo", "not base64!"):
        secrets["azure"]["key"] = key
        await operator.settle()
        assert (operator.condition.status, operator.condition.reason) == (False, "AccessDenied")
        assert "keyFrom" in operator.condition.message
        assert key not in operator.condition.message


async def test_an_account_that_is_away_is_tried_again(kube: Cluster, account: CosmosAccount) -> None:
    operator = driver(kube, account, endpoint="http://127.0.0.1:1/")
    await operator.settle()
    assert operator.condition.reason == "Unreachable"
    assert operator.last.again_s is not None


async def test_a_key_is_needed(kube: Cluster, account: CosmosAccount) -> None:
    with pytest.raises(TierFailed, match=r"spec.state.cosmosdb.keyFrom: give the account's key"):
        await driver(kube, account, keyFrom=None).cycle()


async def test_a_serverless_account_takes_no_throughput(kube: Cluster) -> None:
    async with CosmosAccount(serverless=True) as account, cluster({"azure": {"key": account.key}}) as client:
        await driver(client, account).settle()
        assert list(account.databases["memory"]) == ["states"]
        with pytest.raises(TierFailed, match="Azure refuses"):
            await driver(client, account, container="other", maxThroughput=4000).settle()
