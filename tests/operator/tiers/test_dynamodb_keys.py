"""Keys: those that encrypt a table, and those that the operator signs its calls with."""

from typing import Any

import pytest

from agentmemory_operator.aws import Aws
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers import TierFailed
from agentmemory_operator.tiers.dynamodb import DynamoDbTier
from tests.aws.front import Front
from tests.aws.tests.clients import Client
from tests.operator.tiers.driving import Driver
from tests.operator.tiers.secrets import Secrets, cluster
from tests.operator.tiers.test_dynamodb import TABLE, driver, resource, world


def kms(region: str, name: str) -> str:
    return f"arn:aws:kms:{region}:000000000000:key/{name}"


def keyed(name: str, *regions: str) -> dict[str, Any]:
    """A resource whose regions have keys of their own."""
    return dict(
        resource(*regions, perRegion=[{"region": region, "kmsKeyArn": kms(region, name)} for region in regions])
    )


async def keys(aws: Front) -> dict[str, str]:
    found = {}
    for region in await world(aws):
        table = (await Client(aws, "dynamodb", region).describe_table(TableName=TABLE))["Table"]
        found[region] = table.get("SSEDescription", {}).get("KMSMasterKeyArn", "")
    return found


def declare(operator: Driver, declared: dict[str, Any], generation: int, **annotations: str) -> None:
    operator.resource["spec"] = declared["spec"]
    operator.resource["metadata"] |= {"generation": generation, "annotations": annotations}


async def test_another_key_is_set_and_somebody_elses_is_put_back(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1"))
    await operator.settle()
    for generation, name in ((2, "one"), (3, "two")):
        declare(operator, keyed(name, "us-east-1"), generation)
        assert (await operator.cycle()).drift == ()  # somebody has declared it
        await operator.settle()
        assert await keys(aws) == {"us-east-1": kms("us-east-1", name)}
        assert operator.condition.status is True

    strange = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": kms("us-east-1", "strange")}
    await Client(aws, "dynamodb", "us-east-1").update_table(TableName=TABLE, SSESpecification=strange)
    plan = await operator.cycle()
    assert plan.drift == (f"encrypt table {TABLE} in us-east-1 with {kms('us-east-1', 'two')}",)
    await operator.settle()
    assert await keys(aws) == {"us-east-1": kms("us-east-1", "two")}


async def test_no_key_declared_leaves_the_one_that_is_there(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, keyed("one", "us-east-1"))
    await operator.settle()
    declare(operator, resource("us-east-1"), 2)
    await operator.settle()
    assert await keys(aws) == {"us-east-1": kms("us-east-1", "one")}
    assert operator.condition.status is True


async def test_the_key_of_a_replica_is_changed_as_the_condition_says(aws: Front, calls: Aws) -> None:
    both = ("us-east-1", "us-west-2")
    operator = driver(aws, calls, keyed("one", *both))
    await operator.settle()
    aws.changes.clear()
    declare(operator, keyed("two", *both), 2)
    await operator.settle()
    assert aws.changes == []
    assert (operator.condition.status, operator.condition.reason) == (False, "ImmutableSetting")
    assert f"us-west-2 has {kms('us-west-2', 'one')}" in operator.condition.message
    assert "leave one region in spec.regions" in operator.condition.message

    declare(operator, keyed("two", "us-west-2"), 3, **{"agentmemory.io/remove-region": "us-east-1"})
    await operator.settle()
    assert operator.condition.status is True
    assert await keys(aws) == {"us-west-2": kms("us-west-2", "two")}
    declare(operator, keyed("two", *both), 4)
    await operator.settle()
    assert operator.condition.status is True
    assert await keys(aws) == {region: kms(region, "two") for region in both}


async def test_the_operators_role_is_assumed(aws: Front, calls: Aws) -> None:
    role = "arn:aws:iam::000000000000:role/operator"
    operator = driver(aws, calls, resource("us-east-1"), operatorRoleArn=role)
    await operator.settle()
    assert operator.condition.status is True
    assert any("role%2Foperator" in text for text in aws.assumed)


async def test_static_keys_come_from_a_secret_and_their_loss_holds_up_no_retain(aws: Front, calls: Aws) -> None:
    secrets: Secrets = {"aws": {"id": "test", "key": "test"}}
    refs = {
        "accessKeyIdFrom": {"secretKeyRef": {"name": "aws", "key": "id"}},
        "secretAccessKeyFrom": {"secretKeyRef": {"name": "aws", "key": "key"}},
    }
    settings = Settings.model_validate({"aws": {"dynamodbEndpoint": aws.url}})
    async with cluster(secrets) as kube:
        declared = resource("us-east-1", credentials=refs)
        operator = Driver(lambda: DynamoDbTier(kube, calls), declared, settings)
        await operator.settle()
        assert operator.condition.status is True
        secrets.clear()  # as where the whole namespace goes
        with pytest.raises(TierFailed, match="no Secret aws"):
            await operator.cycle()
        await operator.settle(leaving=True)
        assert operator.last.conditions == ()
        declared["spec"]["deletionPolicy"] = "Delete"
        with pytest.raises(TierFailed, match="no Secret aws"):
            await operator.settle(leaving=True)
    assert set(await world(aws)) == {"us-east-1"}
