"""The real tier against several regions of a strict AWS."""

from typing import Any

import kubernetes.client
import pytest

from agentmemory_operator.aws import Aws
from agentmemory_operator.kube import Cluster
from agentmemory_operator.plan.aws import CLUSTER, MADE, RESOURCE, TENANT
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers.dynamodb import DynamoDbTier
from agentmemory_sidecar.layout.dynamodb import table_definition
from tests.aws.front import Front
from tests.aws.tests.clients import Client, replica
from tests.operator.tiers.driving import Driver, Killed, manifest

TABLE = "support-state"


def resource(
    *regions: str, spec: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **table: Any
) -> Any:
    state = {"dynamodb": {"table": TABLE, "tags": {"team": "support"}, **table}}
    return manifest({"regions": list(regions), "state": state, **(spec or {})}, **(metadata or {}))


def driver(aws: Front, calls: Aws, declared: dict[str, Any], cluster: str = "one", **settings: Any) -> Driver:
    settings = {"cluster_name": cluster, "aws": {"dynamodbEndpoint": aws.url, "stsEndpoint": aws.url, **settings}}
    kube = Cluster(kubernetes.client.ApiClient())  # the resource names no Secret, so nothing is asked of it
    return Driver(lambda: DynamoDbTier(kube, calls), declared, Settings.model_validate(settings))


async def world(aws: Front) -> dict[str, Any]:
    """All that is there, without what time puts in."""
    found: dict[str, Any] = {}
    for region in aws.regions:
        client = Client(aws, "dynamodb", region)
        for name in (await client.list_tables())["TableNames"]:
            table = (await client.describe_table(TableName=name))["Table"]
            tags = (await client.list_tags_of_resource(ResourceArn=table["TableArn"]))["Tags"]
            backups = (await client.describe_continuous_backups(TableName=name))["ContinuousBackupsDescription"]
            ttl = (await client.describe_time_to_live(TableName=name))["TimeToLiveDescription"]
            found[region] = {
                "replicas": sorted(each["RegionName"] for each in table.get("Replicas", ())),
                "protected": table["DeletionProtectionEnabled"],
                "recovery": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
                "expires": ttl.get("AttributeName"),
                "tags": {tag["Key"]: tag["Value"] for tag in tags},
                "strong": table.get("MultiRegionConsistency"),
                "billing": table["BillingModeSummary"]["BillingMode"],
                "witnesses": table.get("GlobalTableWitnesses"),
            }
    return found


async def test_a_table_in_three_regions_is_made_one_replica_at_a_time(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2", "us-east-2"))
    await operator.settle()
    assert operator.condition.status is True
    assert operator.last.again_s is None
    there = await world(aws)
    assert set(there) == {"us-east-1", "us-west-2", "us-east-2"}
    for table in there.values():
        assert (table["protected"], table["recovery"], table["expires"]) == (True, "ENABLED", "expires")
        assert table["billing"] == "PAY_PER_REQUEST"
        assert len(table["replicas"]) == 2
        assert table["tags"] == {
            "team": "support",
            TENANT: "agents",
            CLUSTER: "one",
            RESOURCE: "agents/support",
            MADE: "us-east-1 us-east-2 us-west-2",
        }


async def test_a_settled_table_is_only_looked_at(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    aws.changes.clear()
    for _ in range(3):
        plan = await operator.cycle()
        assert (plan.actions, plan.drift) == ((), ())
    assert aws.changes == []


async def test_killed_after_any_action_the_next_operator_comes_to_the_same(aws: Front, calls: Aws) -> None:
    declared = resource("us-east-1", "us-west-2")
    whole = driver(aws, calls, declared)
    await whole.settle()
    wanted = await world(aws)
    assert len(whole.effects) > 6
    for number in range(len(whole.effects)):
        await aws.reset()
        declared.pop("status", None)
        first = driver(aws, calls, declared)
        with pytest.raises(Killed):
            await first.settle(kill_after=number)
        second = driver(aws, calls, declared)
        await second.settle()
        assert await world(aws) == wanted, first.effects[-1]
        assert second.condition.status is True


async def test_what_takes_time_is_waited_for(aws: Front, calls: Aws) -> None:
    aws.tables.creating_s = 1000
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    assert (operator.condition.status, operator.condition.reason) == (False, "Creating")
    assert "us-east-1 CREATING" in operator.condition.message
    assert operator.last.again_s is not None
    aws.tables.force(TABLE, "us-east-1", "ACTIVE")
    await operator.settle()
    assert "us-west-2 CREATING" in operator.condition.message
    assert operator.last.notes == {"us-east-1": "table updating", "us-west-2": "table creating"}


async def test_a_replica_removed_by_hand_is_reported_and_made_again(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    wanted = await world(aws)
    east, west = Client(aws, "dynamodb", "us-east-1"), Client(aws, "dynamodb", "us-west-2")
    await west.update_table(TableName=TABLE, DeletionProtectionEnabled=False)
    await east.update_table(**replica("Delete", "us-west-2") | {"TableName": TABLE})
    plan = await operator.cycle()
    assert plan.drift == ("create a replica of table support-state in us-east-1 in us-west-2",)
    assert operator.condition.status is False
    await operator.settle()
    assert await world(aws) == wanted
    assert operator.condition.status is True


async def test_changed_settings_are_reported_and_repaired_while_the_table_serves(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    wanted = await world(aws)
    west = Client(aws, "dynamodb", "us-west-2")
    await west.update_table(TableName=TABLE, DeletionProtectionEnabled=False)
    off = {"PointInTimeRecoveryEnabled": False}
    await west.update_continuous_backups(TableName=TABLE, PointInTimeRecoverySpecification=off)
    arn = (await west.describe_table(TableName=TABLE))["Table"]["TableArn"]
    await west.untag_resource(ResourceArn=arn, TagKeys=["team"])
    await west.tag_resource(ResourceArn=arn, Tags=[{"Key": "theirs", "Value": "stays"}])
    plan = await operator.cycle()
    assert len(plan.drift) == 3
    assert all("us-west-2" in line for line in plan.drift)
    assert operator.condition.status is True
    assert (await operator.settle()).drift == ()
    wanted["us-west-2"]["tags"]["theirs"] = "stays"
    assert await world(aws) == wanted


async def test_a_table_of_somebody_else_is_left_alone(aws: Front, calls: Aws) -> None:
    east = Client(aws, "dynamodb", "us-east-1")
    for tags, reason, fix in (
        ({}, "AdoptionRefused", "spec.adopt: true"),
        (
            {TENANT: "other", CLUSTER: "one", RESOURCE: "other/support"},
            "ForeignObject",
            "other/support of tenant other",
        ),
        ({TENANT: "agents", CLUSTER: "one", RESOURCE: "agents/another"}, "ForeignObject", "choose another name"),
    ):
        await aws.reset()
        await east.create_table(**table_definition(TABLE, tags=tags).create)
        before = await world(aws)
        operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
        await operator.settle()
        await operator.settle(leaving=True)
        assert operator.effects == []
        await operator.cycle()
        assert (operator.condition.status, operator.condition.reason) == (False, reason)
        assert fix in operator.condition.message
        assert operator.last.withheld == {"us-east-1"}  # no sidecar writes there
        assert await world(aws) == before


async def test_a_table_of_that_name_in_another_region_is_no_replica(aws: Front, calls: Aws) -> None:
    west = Client(aws, "dynamodb", "us-west-2")
    await west.create_table(**table_definition(TABLE).create)
    operator = driver(aws, calls, resource("us-east-2", "us-west-2"))
    await operator.settle()
    assert operator.effects == []  # whose that one is must be known first
    assert operator.condition.reason == "AdoptionRefused"
    await driver(aws, calls, resource("us-east-2")).settle()
    operator = driver(aws, calls, resource("us-east-2", "us-west-2", "us-east-1"))
    await operator.settle()
    there = await world(aws)
    assert there["us-east-2"]["replicas"] == ["us-east-1"]
    assert there["us-west-2"]["tags"] == {}
    assert operator.condition.reason == "ForeignObject"
    assert "us-west-2 is not a replica" in operator.condition.message


async def test_an_existing_table_is_adopted_only_when_asked_and_only_if_it_is_like_ours(aws: Front, calls: Aws) -> None:
    east = Client(aws, "dynamodb", "us-east-1")
    await east.create_table(**table_definition(TABLE, deletion_protection=False).create)
    operator = driver(aws, calls, resource("us-east-1", "us-west-2", spec={"adopt": True, "deletionPolicy": "Delete"}))
    await operator.settle()
    assert operator.condition.status is True
    assert (await world(aws))["us-east-1"]["tags"][MADE] == "us-west-2"
    await operator.settle(leaving=True)
    there = await world(aws)
    assert set(there) == {"us-east-1"}  # what we made is gone, what was there stays and is nobody's
    assert CLUSTER not in there["us-east-1"]["tags"]

    await aws.reset()
    other = table_definition(TABLE).create | {
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "pending", "KeyType": "RANGE"}]
    }
    other["AttributeDefinitions"] = [each for each in other["AttributeDefinitions"] if each["AttributeName"] != "sk"]
    await east.create_table(**other)
    operator = driver(aws, calls, resource("us-east-1", spec={"adopt": True}))
    await operator.settle()
    assert operator.effects == []
    assert operator.condition.reason == "AdoptionRefused"
    assert "its key is pk and pending, not pk and sk" in operator.condition.message


async def test_another_clusters_operator_observes(aws: Front, calls: Aws) -> None:
    declared = resource("us-east-1", "us-west-2")
    await driver(aws, calls, declared).settle()
    before = await world(aws)
    other = driver(aws, calls, resource("us-east-1", "us-west-2"), cluster="two")
    await other.settle()
    assert (other.condition.status, other.condition.reason) == (True, "ManagedElsewhere")
    await other.settle(leaving=True)
    assert other.effects == []
    assert await world(aws) == before


async def test_retain_gives_the_table_up_and_the_same_resource_gets_it_back(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    wanted = await world(aws)
    await operator.settle(leaving=True)
    released = await world(aws)
    assert all(CLUSTER not in table["tags"] for table in released.values())
    assert all(table["protected"] for table in released.values())
    again = driver(aws, calls, resource("us-east-1", "us-west-2"), cluster="one")
    await again.settle()
    assert await world(aws) == wanted
    other = driver(aws, calls, resource("us-east-1", metadata={"namespace": "others"}))
    await other.settle()
    assert other.condition.reason == "ForeignObject"


async def test_delete_removes_all_that_was_made_killed_at_any_action(aws: Front, calls: Aws) -> None:
    declared = resource("us-east-1", "us-west-2", spec={"deletionPolicy": "Delete"})
    whole = driver(aws, calls, declared)
    await whole.settle()
    made = len(whole.effects)
    await whole.settle(leaving=True)
    assert await world(aws) == {}
    for number in range(made, len(whole.effects)):
        declared.pop("status", None)
        first = driver(aws, calls, declared)
        await first.settle()
        with pytest.raises(Killed):
            await first.settle(leaving=True, kill_after=number)
        await driver(aws, calls, declared).settle(leaving=True)
        assert await world(aws) == {}


async def test_a_source_that_aws_holds_is_waited_for(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2", spec={"deletionPolicy": "Delete"}))
    await operator.settle()
    aws.tables.source_hold_s = 1000
    with pytest.raises(Exception, match="24 hours"):
        await operator.settle(leaving=True)
    assert set(await world(aws)) == {"us-east-1"}
    aws.tables.source_hold_s = 0
    await operator.settle(leaving=True)
    assert await world(aws) == {}


async def test_a_region_leaves_only_when_the_annotation_names_it(aws: Front, calls: Aws) -> None:
    await driver(aws, calls, resource("us-east-1", "us-west-2", "us-east-2")).settle()
    fewer = resource("us-west-2", "us-east-2")
    operator = driver(aws, calls, fewer)
    await operator.settle()
    assert set(await world(aws)) == {"us-east-1", "us-west-2", "us-east-2"}
    fewer["metadata"]["annotations"] = {"agentmemory.io/remove-region": "us-east-1"}
    await operator.settle()
    there = await world(aws)
    assert set(there) == {"us-west-2", "us-east-2"}
    assert operator.condition.status is True


@pytest.mark.parametrize("mode", ["refuse", "error"])
async def test_a_region_that_is_away_stops_no_other(aws: Front, calls: Aws, mode: Any) -> None:
    aws.reach("us-west-2", mode)
    operator = driver(aws, calls, resource("us-east-1", "us-west-2", "us-east-2"))
    await operator.settle()
    assert (await Client(aws, "dynamodb", "us-east-1").describe_table(TableName=TABLE))["Table"]["Replicas"]
    assert (operator.condition.status, operator.condition.reason) == (False, "Unreachable")
    assert "us-west-2" in operator.condition.message
    aws.reach("us-west-2", "ok")
    await operator.settle()
    assert operator.condition.status is True
    assert set(await world(aws)) == {"us-east-1", "us-west-2", "us-east-2"}


async def test_a_replica_that_aws_has_taken_away_is_reported(aws: Front, calls: Aws) -> None:
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    for status in ("REGION_DISABLED", "INACCESSIBLE_ENCRYPTION_CREDENTIALS"):
        aws.tables.force(TABLE, "us-west-2", status)
        await operator.settle()
        assert operator.condition.reason == "Degraded"
        assert f"us-west-2: AWS says {status}" in operator.condition.message


async def test_a_replica_whose_creation_failed_is_made_again(aws: Front, calls: Aws) -> None:
    aws.tables.fail_next.add((TABLE, "us-west-2"))
    operator = driver(aws, calls, resource("us-east-1", "us-west-2"))
    await operator.settle()
    assert any("its creation failed" in effect for effect in operator.effects)
    assert operator.condition.status is True


@pytest.mark.parametrize(
    ("regions", "more"),
    [(("us-east-1", "us-west-2", "us-east-2"), {}), (("us-east-1", "us-west-2"), {"witnessRegion": "us-east-2"})],
)
async def test_a_strong_table_is_made_at_once_and_goes_at_once(
    aws: Front, calls: Aws, regions: tuple[str, ...], more: dict[str, str]
) -> None:
    declared = resource(*regions, spec={"deletionPolicy": "Delete"}, consistency="Strong", **more)
    operator = driver(aws, calls, declared)
    while not any("strong" in effect for effect in operator.effects):
        assert (await operator.cycle()).withheld == set(regions)  # a single item would keep it from becoming strong
    await operator.settle()
    assert operator.condition.status is True
    assert operator.last.withheld == set()
    there = await world(aws)
    assert set(there) == set(regions)
    assert all((table["strong"], table["expires"]) == ("STRONG", None) for table in there.values())
    await operator.settle(leaving=True)
    assert await world(aws) == {}


async def test_a_table_with_items_cannot_become_strong(aws: Front, calls: Aws) -> None:
    east = Client(aws, "dynamodb", "us-east-1")
    await east.create_table(**table_definition(TABLE).create)
    await east.put_item(TableName=TABLE, Item={"pk": {"S": "a"}, "sk": {"S": "b"}})
    declared = resource("us-east-1", "us-west-2", "us-east-2", spec={"adopt": True}, consistency="Strong")
    operator = driver(aws, calls, declared)
    await operator.settle()
    assert operator.condition.reason == "ImmutableSetting"
    assert "empty" in operator.condition.message
    assert not any("strong" in effect for effect in operator.effects)


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


async def test_a_resource_without_regions_is_nowhere_in_aws(calls: Aws) -> None:
    declared = manifest({"state": {"dynamodb": {"table": TABLE}}})
    operator = Driver(lambda: DynamoDbTier(Cluster(kubernetes.client.ApiClient()), calls), declared)
    await operator.settle()
    assert operator.condition.reason == "InvalidSpec"
    assert "spec.regions" in operator.condition.message
    assert (await operator.cycle(leaving=True)).conditions == ()
