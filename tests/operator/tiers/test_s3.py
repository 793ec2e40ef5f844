"""The real tier against several regions of a strict AWS."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import kubernetes.client
import pytest

from agentmemory_operator.aws import Aws
from agentmemory_operator.kube import Cluster
from agentmemory_operator.plan.aws import CLUSTER, MADE
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers.s3 import S3Tier
from tests.aws.front import Front
from tests.aws.tests.clients import Client, refused
from tests.operator.tiers.driving import Driver, Killed, manifest

ROLE = "arn:aws:iam::000000000000:role/replication"
EAST, WEST = "acme-support-us-east-1", "acme-support-us-west-2"


def resource(
    *regions: str, spec: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **s3: Any
) -> Any:
    archive = {"s3": {"bucketPrefix": "acme-support", "tags": {"team": "support"}, **s3}}
    return manifest({"regions": list(regions), "archive": archive, **(spec or {})}, **(metadata or {}))


def driver(aws: Front, calls: Aws, declared: dict[str, Any], cluster: str = "one", **settings: Any) -> Driver:
    known = {"s3Endpoint": aws.url, "stsEndpoint": aws.url, "replicationRoleArn": ROLE, **settings}
    kube = Cluster(kubernetes.client.ApiClient())  # the resource names no Secret, so nothing is asked of it
    return Driver(
        lambda: S3Tier(kube, calls), declared, Settings.model_validate({"cluster_name": cluster, "aws": known})
    )


async def settings_of(client: Client, bucket: str) -> dict[str, Any]:
    """A bucket as S3 tells it."""
    found: dict[str, Any] = {}
    for name in (
        "get_bucket_tagging",
        "get_bucket_versioning",
        "get_bucket_ownership_controls",
        "get_public_access_block",
        "get_bucket_encryption",
        "get_object_lock_configuration",
        "get_bucket_lifecycle_configuration",
        "get_bucket_policy",
        "get_bucket_replication",
    ):
        try:
            answer = await getattr(client, name)(Bucket=bucket)
        except Exception as error:
            answer = {"refused": type(error).__name__}
        found[name] = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
    return found


async def world(aws: Front) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for region in aws.regions:
        client = Client(aws, "s3", region)
        for bucket in (await client.list_buckets())["Buckets"]:
            found[bucket["Name"]] = await settings_of(client, bucket["Name"])
    return found


async def test_a_bucket_a_region_with_everything_that_keeps_it(aws: Front, calls: Aws) -> None:
    declared = resource("us-east-1", "us-west-2", objectLock={"mode": "Governance", "days": 365}, keyPrefix="memory/")
    operator = driver(aws, calls, declared)
    await operator.settle()
    assert operator.condition.status is True
    there = await world(aws)
    assert set(there) == {EAST, WEST}
    for name, bucket in there.items():
        other = WEST if name == EAST else EAST
        tags = {tag["Key"]: tag["Value"] for tag in bucket["get_bucket_tagging"]["TagSet"]}
        assert (tags["team"], tags[CLUSTER], tags[MADE]) == ("support", "one", name.removeprefix("acme-support-"))
        assert bucket["get_bucket_versioning"]["Status"] == "Enabled"
        rules = bucket["get_bucket_ownership_controls"]["OwnershipControls"]["Rules"]
        assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        assert set(bucket["get_public_access_block"]["PublicAccessBlockConfiguration"].values()) == {True}
        lock = bucket["get_object_lock_configuration"]["ObjectLockConfiguration"]
        assert lock["Rule"] == {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 365}}
        (life,) = bucket["get_bucket_lifecycle_configuration"]["Rules"]
        assert life["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
        (statement,) = json.loads(bucket["get_bucket_policy"]["Policy"])["Statement"]
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        replication = bucket["get_bucket_replication"]["ReplicationConfiguration"]
        assert replication["Role"] == ROLE
        (rule,) = replication["Rules"]
        assert rule["Destination"]["Bucket"] == f"arn:aws:s3:::{other}"
        assert rule["Filter"] == {"Prefix": "memory/"}


async def test_what_is_written_in_one_region_is_in_the_other(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    east, west = Client(aws, "s3", "us-east-1"), Client(aws, "s3", "us-west-2")
    await east.put_object(Bucket=EAST, Key="from-east", Body=b"e")
    await west.put_object(Bucket=WEST, Key="from-west", Body=b"w")
    await aws.links.settle()
    assert (await west.head_object(Bucket=WEST, Key="from-east"))["ReplicationStatus"] == "REPLICA"
    assert (await east.head_object(Bucket=EAST, Key="from-west"))["ReplicationStatus"] == "REPLICA"


async def test_settled_buckets_are_only_looked_at(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2", objectLock={"days": 3}))
    await operator.settle()
    aws.changes.clear()
    for _ in range(3):
        plan = await operator.cycle()
        assert (plan.actions, plan.drift) == ((), ())
    assert aws.changes == []


async def test_killed_after_any_action_the_next_operator_comes_to_the_same(aws: Front, calls: Aws) -> None:
    declared = resource("us-east-1", "us-west-2", objectLock={"days": 3})
    whole = driver(aws, calls, declared)
    await whole.settle()
    wanted = await world(aws)
    assert len(whole.effects) > 8
    for number in range(len(whole.effects)):
        await aws.reset()
        declared.pop("status", None)
        with pytest.raises(Killed):
            await driver(aws, calls, declared).settle(kill_after=number)
        second = driver(aws, calls, declared)
        await second.settle()
        assert await world(aws) == wanted, whole.effects[number]
        assert second.condition.status is True


async def test_what_somebody_changed_is_reported_and_repaired(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    wanted = await world(aws)
    west = Client(aws, "s3", "us-west-2")
    await west.delete_bucket_policy(Bucket=WEST)
    await west.delete_bucket_replication(Bucket=WEST)
    await west.delete_public_access_block(Bucket=WEST)
    plan = await operator.cycle()
    assert set(plan.drift) == {
        f"set policy of bucket {WEST}",
        f"set replication of bucket {WEST}",
        f"set public access block of bucket {WEST}",
    }
    assert operator.condition.status is True  # it serves all the while
    assert (await operator.settle()).drift == ()
    assert await world(aws) == wanted


async def test_what_somebody_else_has_added_stays(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1"))
    await operator.settle()
    east = Client(aws, "s3", "us-east-1")
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    rules = (await east.get_bucket_lifecycle_configuration(Bucket=EAST))["Rules"]
    await east.put_bucket_lifecycle_configuration(Bucket=EAST, LifecycleConfiguration={"Rules": [*rules, theirs]})
    statement = {
        "Sid": "Theirs",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{EAST}/*",
    }
    await east.put_bucket_policy(Bucket=EAST, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    await operator.settle()
    policy = json.loads((await east.get_bucket_policy(Bucket=EAST))["Policy"])
    assert {each["Sid"] for each in policy["Statement"]} == {"Theirs", "AgentMemoryTlsOnly"}
    rules = (await east.get_bucket_lifecycle_configuration(Bucket=EAST))["Rules"]
    assert {rule["ID"] for rule in rules} == {"theirs", "agentmemory"}


async def test_a_foreign_bucket_is_refused(aws: Front, calls: Aws) -> None:
    aws.buckets.foreign(EAST, "us-east-1")
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    assert operator.effects == []
    assert (operator.condition.status, operator.condition.reason) == (False, "ForeignObject")
    assert "choose another bucketPrefix" in operator.condition.message
    await operator.settle(leaving=True)
    assert operator.effects == []


async def test_a_foreign_bucket_in_the_second_region_does_not_stop_the_first(aws: Front, calls: Aws) -> None:
    aws.buckets.foreign(WEST, "us-west-2")
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    assert set(await world(aws)) == {EAST}
    assert operator.condition.reason == "ForeignObject"
    assert operator.last.withheld == {"us-west-2"}
    assert all(WEST not in effect for effect in operator.effects)


async def test_an_existing_bucket_is_adopted_only_when_asked_and_not_deleted(aws: Front, calls: Aws) -> None:
    east = Client(aws, "s3", "us-east-1")
    await east.create_bucket(Bucket=EAST)
    await east.put_bucket_tagging(Bucket=EAST, Tagging={"TagSet": [{"Key": "theirs", "Value": "stays"}]})
    before = await world(aws)
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    assert (operator.condition.reason, operator.effects) == ("AdoptionRefused", [])
    assert "spec.adopt: true" in operator.condition.message
    assert await world(aws) == before

    declared = resource("us-east-1", "us-west-2", spec={"adopt": True, "deletionPolicy": "Delete"})
    operator = driver(aws, calls, declared)
    await operator.settle()
    assert operator.condition.status is True
    await operator.settle(leaving=True)
    there = await world(aws)
    assert set(there) == {EAST}
    tags = {tag["Key"]: tag["Value"] for tag in there[EAST]["get_bucket_tagging"]["TagSet"]}
    assert (tags["theirs"], CLUSTER in tags) == ("stays", False)


async def test_another_clusters_operator_observes(aws: Front, calls: Aws) -> None:
    await driver(aws, calls, resource("us-east-1", "us-west-2")).settle()
    before = await world(aws)
    other = driver(aws, calls, resource("us-east-1", "us-west-2"), cluster="two")
    await other.settle()
    assert (other.condition.status, other.condition.reason) == (True, "ManagedElsewhere")
    await other.settle(leaving=True)
    assert other.effects == []
    assert await world(aws) == before


async def test_retain_leaves_the_data_and_the_same_resource_gets_them_back(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    wanted = await world(aws)
    east = Client(aws, "s3", "us-east-1")
    await east.put_object(Bucket=EAST, Key="record", Body=b"data")
    await operator.settle(leaving=True)
    assert (await east.get_object(Bucket=EAST, Key="record"))["Body"].read() == b"data"
    assert await world(aws) != wanted
    again = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await again.settle()
    assert again.condition.status is True
    assert len(again.effects) == 2  # the ownership tags, and nothing else
    assert not any("create" in effect for effect in again.effects)


async def test_delete_removes_what_was_made_and_its_objects(aws: Front, calls: Aws) -> None:
    declared = resource("us-east-1", "us-west-2", spec={"deletionPolicy": "Delete"})
    operator = driver(aws, calls, declared)
    await operator.settle()
    east = Client(aws, "s3", "us-east-1")
    for number in range(3):
        await east.put_object(Bucket=EAST, Key=f"record-{number}", Body=b"data")
    await east.delete_object(Bucket=EAST, Key="record-0")
    await aws.links.settle()
    await operator.settle(leaving=True)
    assert await world(aws) == {}
    assert operator.last.conditions == ()


async def test_what_object_lock_keeps_is_reported_and_tried_again(aws: Front, calls: Aws) -> None:
    now = [0.0]
    declared = resource("us-east-1", spec={"deletionPolicy": "Delete"}, objectLock={"days": 3})
    operator = driver(aws, calls, declared)
    operator.tier = S3Tier(Cluster(kubernetes.client.ApiClient()), calls, clock=lambda: now[0])
    await operator.settle()
    east = Client(aws, "s3", "us-east-1")
    kept = await east.put_object(Bucket=EAST, Key="record", Body=b"data")
    await operator.settle(leaving=True)
    assert operator.condition.reason == "NotEmpty"
    assert "1 versions that Object Lock keeps" in operator.condition.message
    assert (await east.get_object(Bucket=EAST, Key="record"))["Body"].read() == b"data"
    short = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=1)}
    await east.put_object_retention(
        Bucket=EAST, Key="record", VersionId=kept["VersionId"], Retention=short, BypassGovernanceRetention=True
    )
    while True:  # the retention ends by the clock of the server
        now[0] += 1000
        await operator.settle(leaving=True)
        if not operator.last.conditions:
            break
    assert await world(aws) == {}


async def test_a_region_that_is_away_stops_no_other(aws: Front, calls: Aws) -> None:
    aws.reach("us-west-2", "refuse")
    operator = driver(aws, calls, resource("us-east-1", "us-west-2", "us-east-2"))
    await operator.settle()
    assert (operator.condition.status, operator.condition.reason) == (False, "Unreachable")
    aws.reach("us-west-2", "ok")
    assert set(await world(aws)) == {EAST, "acme-support-us-east-2"}
    await operator.settle()
    assert operator.condition.status is True
    assert set(await world(aws)) == {EAST, WEST, "acme-support-us-east-2"}


async def test_an_away_region_does_not_lose_its_replication_rule(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2", "us-east-2"))
    await operator.settle()
    before = await settings_of(Client(aws, "s3", "us-east-1"), EAST)
    aws.reach("us-west-2", "refuse")
    plan = await operator.cycle()
    assert plan.actions == ()
    assert await settings_of(Client(aws, "s3", "us-east-1"), EAST) == before


async def test_a_region_leaves_with_its_data(aws: Front, calls: Aws) -> None:
    await driver(aws, calls, resource("us-east-1", "us-west-2")).settle()
    left = resource("us-east-1", metadata={"annotations": {"agentmemory.io/remove-region": "us-west-2"}})
    operator = driver(aws, calls, left)
    await operator.settle()
    east, west = Client(aws, "s3", "us-east-1"), Client(aws, "s3", "us-west-2")
    for client, bucket in ((east, EAST), (west, WEST)):
        call = client.get_bucket_replication(Bucket=bucket)
        await refused(call, "ReplicationConfigurationNotFoundError")
    tags = (await west.get_bucket_tagging(Bucket=WEST))["TagSet"]
    assert CLUSTER not in {tag["Key"] for tag in tags}
    assert operator.condition.status is True


async def test_two_regions_need_a_role(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"), replicationRoleArn="")
    await operator.settle()
    assert (operator.condition.status, operator.condition.reason) == (False, "InvalidSpec")
    assert "archive.s3.replication.roleArn" in operator.condition.message
    assert set(await world(aws)) == {EAST, WEST}


async def test_observe_only_changes_nothing(aws: Front, calls: Aws) -> None:
    declared = resource("us-east-1", spec={"managementPolicy": "ObserveOnly", "deletionPolicy": "Delete"})
    operator = driver(aws, calls, declared)
    await operator.cycle()
    assert operator.condition.status is False
    assert aws.changes == []
    await driver(aws, calls, resource("us-east-1")).settle()
    before = await world(aws)
    await operator.cycle()
    assert operator.condition.status is True
    await operator.settle(leaving=True)
    assert await world(aws) == before


async def test_a_bucket_of_another_account_is_not_taken_for_ours(aws: Front, calls: Aws) -> None:
    await driver(aws, calls, resource("us-east-1")).settle()
    role = "arn:aws:iam::123456789012:role/operator"  # its account is the one that is expected
    operator = driver(aws, calls, resource("us-east-1"), operatorRoleArn=role)
    await operator.settle()
    assert (operator.condition.reason, operator.effects) == ("ForeignObject", [])
