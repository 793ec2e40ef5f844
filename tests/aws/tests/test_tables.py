"""What the front accepts and refuses of tables and global tables."""

from typing import Any

from tests.aws.front import Front
from tests.aws.tests.clients import TABLE, Client, refused, replica


async def global_table(aws: Front, *regions: str) -> tuple[Client, Client]:
    east, west = Client(aws, "dynamodb", "us-east-1"), Client(aws, "dynamodb", "us-west-2")
    await east.create_table(**TABLE)
    for region in regions or ("us-west-2",):
        await east.update_table(**replica("Create", region))
    return east, west


async def statuses(client: Client) -> dict[str, str]:
    table = (await client.describe_table(TableName="memory"))["Table"]
    return {each["RegionName"]: each["ReplicaStatus"] for each in table.get("Replicas", ())}


async def test_a_replica_takes_its_time_and_keeps_the_table_busy(aws: Front) -> None:
    east = Client(aws, "dynamodb", "us-east-1")
    await east.create_table(**TABLE)
    await east.put_item(TableName="memory", Item={"pk": {"S": "old"}})
    aws.tables.creating_s = 1000
    await east.update_table(**replica("Create", "us-west-2"))
    assert await statuses(east) == {"us-west-2": "CREATING"}
    await refused(east.update_table(**replica("Create", "us-east-2")), "ResourceInUseException")
    await refused(east.delete_table(TableName="memory"), "ResourceInUseException")
    west = Client(aws, "dynamodb", "us-west-2")
    backups = {"PointInTimeRecoveryEnabled": True}
    await refused(
        west.update_continuous_backups(TableName="memory", PointInTimeRecoverySpecification=backups),
        "ContinuousBackupsUnavailableException",
    )
    aws.tables.force("memory", "us-west-2", "ACTIVE")
    assert await statuses(east) == {"us-west-2": "ACTIVE"}
    assert (await west.get_item(TableName="memory", Key={"pk": {"S": "old"}}))["Item"] == {"pk": {"S": "old"}}


async def test_one_replica_operation_at_a_time_and_nothing_beside_it(aws: Front) -> None:
    east, _ = await global_table(aws)
    both = [{"Create": {"RegionName": "us-east-2"}}, {"Delete": {"RegionName": "us-west-2"}}]
    await refused(east.update_table(TableName="memory", ReplicaUpdates=both), "ValidationException", "Only one")
    beside = replica("Create", "us-east-2") | {"DeletionProtectionEnabled": True}
    await refused(east.update_table(**beside), "ValidationException", "combined")
    await refused(east.update_table(**replica("Create", "us-west-2")), "ValidationException", "already")
    await refused(east.update_table(**replica("Create", "eu-west-1")), "ValidationException")
    await refused(east.update_table(**replica("Delete", "us-east-2")), "ReplicaNotFoundException")
    await refused(east.delete_table(TableName="memory"), "ValidationException", "delete its replicas")


async def test_a_replica_needs_a_stream_and_a_free_name(aws: Front) -> None:
    east, west = Client(aws, "dynamodb", "us-east-1"), Client(aws, "dynamodb", "us-west-2")
    await east.create_table(**{name: value for name, value in TABLE.items() if name != "StreamSpecification"})
    await refused(east.update_table(**replica("Create", "us-west-2")), "ValidationException", "stream")
    await east.delete_table(TableName="memory")
    await east.create_table(**TABLE)
    await west.create_table(**TABLE)
    await refused(east.update_table(**replica("Create", "us-west-2")), "ValidationException", "exists in us-west-2")


async def test_protection_and_the_source_hold_keep_a_replica(aws: Front) -> None:
    east, west = await global_table(aws)
    await west.update_table(TableName="memory", DeletionProtectionEnabled=True)
    await refused(east.update_table(**replica("Delete", "us-west-2")), "ValidationException", "deletion protection")
    await west.update_table(TableName="memory", DeletionProtectionEnabled=False)
    aws.tables.source_hold_s = 1000
    await refused(west.update_table(**replica("Delete", "us-east-1")), "ValidationException", "24 hours")
    await east.update_table(**replica("Delete", "us-west-2"))
    await refused(west.describe_table(TableName="memory"), "ResourceNotFoundException")
    assert await statuses(east) == {}


async def test_a_creation_that_fails_is_deleted_and_tried_again(aws: Front) -> None:
    east = Client(aws, "dynamodb", "us-east-1")
    await east.create_table(**TABLE)
    aws.tables.fail_next.add(("memory", "us-west-2"))
    await east.update_table(**replica("Create", "us-west-2"))
    assert await statuses(east) == {"us-west-2": "CREATION_FAILED"}
    await east.update_table(**replica("Delete", "us-west-2"))
    await east.update_table(**replica("Create", "us-west-2"))
    assert await statuses(east) == {"us-west-2": "ACTIVE"}


def strong(*regions: str, witness: str = "") -> dict[str, Any]:
    updates = {"ReplicaUpdates": [{"Create": {"RegionName": region}} for region in regions]}
    voting = {"GlobalTableWitnessUpdates": [{"Create": {"RegionName": witness}}]} if witness else {}
    return {"TableName": "memory", "MultiRegionConsistency": "STRONG", **updates, **voting}


async def test_a_strong_table_has_three_regions_and_begins_empty(aws: Front) -> None:
    east, west = Client(aws, "dynamodb", "us-east-1"), Client(aws, "dynamodb", "us-west-2")
    await east.create_table(**TABLE)
    await refused(east.update_table(**strong("us-west-2")), "ValidationException", "three")
    await refused(east.update_table(**strong("us-west-2", witness="eu-west-1")), "ValidationException", "Region set")
    await east.put_item(TableName="memory", Item={"pk": {"S": "a"}})
    await refused(east.update_table(**strong("us-west-2", witness="us-east-2")), "ValidationException", "empty")
    await east.delete_item(TableName="memory", Key={"pk": {"S": "a"}})
    await east.update_table(**strong("us-west-2", witness="us-east-2"))
    table = (await west.describe_table(TableName="memory"))["Table"]
    assert table["MultiRegionConsistency"] == "STRONG"
    assert table["GlobalTableWitnesses"] == [{"RegionName": "us-east-2", "WitnessStatus": "ACTIVE"}]
    await refused(east.update_table(**replica("Delete", "us-west-2")), "ValidationException", "all but one")
    ttl = {"AttributeName": "expires", "Enabled": True}
    await refused(east.update_time_to_live(TableName="memory", TimeToLiveSpecification=ttl), "ValidationException")


async def test_time_to_live_is_one_setting_for_all_replicas(aws: Front) -> None:
    east, west = await global_table(aws)
    ttl = {"TableName": "memory", "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True}}
    await east.update_time_to_live(**ttl)
    await refused(west.update_time_to_live(**ttl), "ValidationException", "already enabled")
