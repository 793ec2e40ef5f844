"""Buckets, and objects that travel between them."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.front import Front
from tests.aws.tests.clients import Client, refused


async def bucket(aws: Front, name: str, region: str, *, lock: bool = False) -> Client:
    client = Client(aws, "s3", region)
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    await client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock, **place)
    await client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return client


def replication(target: str, **more: Any) -> dict[str, Any]:
    rule = {
        "ID": "all",
        "Priority": 1,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{target}"},
    }
    return {"Role": "arn:aws:iam::000000000000:role/replication", "Rules": [rule | more]}


async def test_names_are_global_and_each_bucket_has_one_region(aws: Front) -> None:
    east, west = await bucket(aws, "one-bucket", "us-east-1"), Client(aws, "s3", "us-west-2")
    there = {"LocationConstraint": "us-west-2"}
    await refused(west.create_bucket(Bucket="one-bucket", CreateBucketConfiguration=there), "BucketAlreadyOwnedByYou")
    aws.buckets.foreign("taken-bucket", "us-west-2")
    await refused(west.create_bucket(Bucket="taken-bucket", CreateBucketConfiguration=there), "BucketAlreadyExists")
    await refused(west.head_bucket(Bucket="taken-bucket"), "403")
    await refused(east.head_bucket(Bucket="one-bucket", ExpectedBucketOwner="123456789012"), "403")
    await refused(east.head_bucket(Bucket="no-bucket"), "404")


async def test_replication_needs_two_versioned_buckets_and_whole_rules(aws: Front) -> None:
    east = await bucket(aws, "east-bucket", "us-east-1", lock=True)
    await refused(
        east.put_bucket_replication(Bucket="east-bucket", ReplicationConfiguration=replication("west-bucket")),
        "InvalidRequest",
        "must exist",
    )
    west = await bucket(aws, "west-bucket", "us-west-2")
    for rules, why in (
        (replication("west-bucket"), "Object Lock"),
        (replication("east-bucket"), "must exist"),
        (replication("west-bucket") | {"Role": "nobody"}, "Role"),
    ):
        call = east.put_bucket_replication(Bucket="east-bucket", ReplicationConfiguration=rules)
        await refused(call, "InvalidRequest", why)
    await west.put_bucket_replication(Bucket="west-bucket", ReplicationConfiguration=replication("east-bucket"))
    suspended = {"Status": "Suspended"}
    await refused(
        west.put_bucket_versioning(Bucket="west-bucket", VersioningConfiguration=suspended), "InvalidBucketState"
    )


async def test_objects_and_markers_travel_both_ways_with_lag_and_cuts(aws: Front) -> None:
    east = await bucket(aws, "east-bucket", "us-east-1", lock=True)
    west = await bucket(aws, "west-bucket", "us-west-2", lock=True)
    await east.put_bucket_replication(Bucket="east-bucket", ReplicationConfiguration=replication("west-bucket"))
    await west.put_bucket_replication(Bucket="west-bucket", ReplicationConfiguration=replication("east-bucket"))
    aws.links.set(cut=True)
    await east.put_object(Bucket="east-bucket", Key="a/key", Body=b"data", Metadata={"kind": "record"})
    assert (await east.head_object(Bucket="east-bucket", Key="a/key"))["ReplicationStatus"] == "PENDING"
    with pytest.raises(ClientError, match="404"):
        await west.head_object(Bucket="west-bucket", Key="a/key")
    aws.links.heal()
    await aws.links.settle()
    there = await west.get_object(Bucket="west-bucket", Key="a/key")
    assert (there["Body"].read(), there["Metadata"], there["ReplicationStatus"]) == (
        b"data",
        {"kind": "record"},
        "REPLICA",
    )
    assert (await east.head_object(Bucket="east-bucket", Key="a/key"))["ReplicationStatus"] == "COMPLETED"
    await west.delete_object(Bucket="west-bucket", Key="a/key")
    await aws.links.settle()
    with pytest.raises(ClientError, match="404"):
        await east.head_object(Bucket="east-bucket", Key="a/key")
    versions = await east.list_object_versions(Bucket="east-bucket")
    assert len(versions["Versions"]) == 1  # what came back from the west was not sent there again
