"""KMS keys of buckets: set, changed, put back."""

from typing import Any

from agentmemory_operator.aws import Aws
from tests.aws.front import Front
from tests.aws.tests.clients import Client
from tests.operator.tiers.test_s3 import EAST, WEST, driver, resource, world


def kms(region: str, name: str) -> str:
    return f"arn:aws:kms:{region}:000000000000:key/{name}"


def keyed(name: str) -> dict[str, Any]:
    """A resource whose regions have keys of their own."""
    keys = [{"region": region, "kmsKeyArn": kms(region, name)} for region in ("us-east-1", "us-west-2")]
    return dict(resource("us-east-1", "us-west-2", perRegion=keys))


async def keys(aws: Front) -> dict[str, tuple[str, str]]:
    """Each bucket's key, and the one it copies with."""
    found = {}
    for bucket, known in (await world(aws)).items():
        default = known["get_bucket_encryption"]["ServerSideEncryptionConfiguration"]["Rules"][0]
        (rule,) = known["get_bucket_replication"]["ReplicationConfiguration"]["Rules"]
        copies = rule["Destination"].get("EncryptionConfiguration", {}).get("ReplicaKmsKeyID", "")
        found[bucket] = default["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID", ""), copies
    return found


def expected(name: str) -> dict[str, tuple[str, str]]:
    east, west = kms("us-east-1", name), kms("us-west-2", name)
    return {EAST: (east, west), WEST: (west, east)}


async def test_other_keys_are_set_and_somebody_elses_are_put_back(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    for generation, name in ((2, "one"), (3, "two")):
        operator.resource["spec"] = keyed(name)["spec"]
        operator.resource["metadata"]["generation"] = generation
        await operator.settle()
        assert await keys(aws) == expected(name)
        assert operator.condition.status is True

    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms("us-west-2", "strange")}
    strange = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    west = Client(aws, "s3", "us-west-2")
    await west.put_bucket_encryption(Bucket=WEST, ServerSideEncryptionConfiguration=strange)
    assert (await operator.cycle()).drift == (f"set encryption of bucket {WEST}",)
    await operator.settle()
    assert await keys(aws) == expected("two")

    operator.resource["spec"] = resource("us-east-1", "us-west-2")["spec"]
    operator.resource["metadata"]["generation"] = 4
    await operator.settle()
    assert {own for own, _ in (await keys(aws)).values()} == {kms("us-east-1", "two"), kms("us-west-2", "two")}
