"""What the operator makes is what the sidecars' own adapters work with, in each region."""

import kubernetes.client
import pytest

from agentmemory_operator.aws import Aws
from agentmemory_operator.kube import Cluster
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers.dynamodb import DynamoDbTier
from agentmemory_operator.tiers.s3 import S3Tier
from agentmemory_sidecar.stores.aws import AwsOptions
from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.protocols import ABSENT
from agentmemory_sidecar.stores.s3 import S3ObjectStore, S3Options
from tests.aws.front import Front
from tests.operator.tiers.driving import Driver, manifest
from tests.sidecar.stores.conformance.state import create, fresh

EAST, WEST = "us-east-1", "us-west-2"
SPEC = {
    "regions": [EAST, WEST],
    "state": {"dynamodb": {"table": "support-state"}},
    "archive": {"s3": {"bucketPrefix": "acme-support", "objectLock": {"days": 1}}},
}


@pytest.fixture
async def made(aws: Front) -> Front:
    """AWS after the operator."""
    calls, kube = Aws(), Cluster(kubernetes.client.ApiClient())
    known = {"dynamodbEndpoint": aws.url, "s3Endpoint": aws.url}
    known["replicationRoleArn"] = "arn:aws:iam::000000000000:role/replication"
    settings = Settings.model_validate({"aws": known})
    for make in (lambda: DynamoDbTier(kube, calls), lambda: S3Tier(kube, calls)):
        operator = Driver(make, manifest(SPEC), settings)
        await operator.settle()
        assert operator.condition.status is True
    await calls.close()
    return aws


def options(aws: Front, region: str) -> AwsOptions:
    return AwsOptions(
        region, endpoint_url=aws.url, deadline_s=30, read_timeout_s=30, access_key_id="a", secret_access_key="b"
    )


async def test_a_head_that_one_region_writes_is_read_in_the_other_once_it_is_there(made: Front) -> None:
    east = DynamoStateStore(options(made, EAST), "support-state", head=EAST)
    west = DynamoStateStore(options(made, WEST), "support-state", head=EAST)
    talk = fresh()
    made.links.set(cut=True)
    await create(east, talk, b"state", pending=True)
    assert (await west.read(talk)).versions == ABSENT
    made.links.heal()
    await made.links.settle()
    assert (await west.read(talk)).body == b"state"
    await east.close()
    await west.close()


async def test_a_record_of_one_region_is_in_the_others_bucket(made: Front) -> None:
    stores = {
        region: S3ObjectStore(options(made, region), S3Options(f"acme-support-{region}")) for region in (EAST, WEST)
    }
    await stores[WEST].put({"acme/user/record": b"sealed"})
    await made.links.settle()
    assert await stores[EAST].get("acme/user/record") == b"sealed"
    for store in stores.values():
        await store.close()
