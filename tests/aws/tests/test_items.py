"""Replication of items: the anomalies of eventual tables are there, and strong tables have none."""

from tests.aws.front import Front
from tests.aws.tests.clients import TABLE, Client, refused
from tests.aws.tests.test_tables import global_table, strong

KEY = {"pk": {"S": "item"}}


async def put(client: Client, value: str) -> None:
    await client.put_item(TableName="memory", Item={**KEY, "by": {"S": value}})


async def read(client: Client) -> str | None:
    item = (await client.get_item(TableName="memory", Key=KEY, ConsistentRead=True)).get("Item")
    return item["by"]["S"] if item else None


async def test_two_regions_both_accept_the_same_version_and_the_last_writer_wins(aws: Front) -> None:
    east, west = await global_table(aws)
    aws.links.set(cut=True)
    for client, name in ((east, "east"), (west, "west")):
        await client.put_item(
            TableName="memory", Item={**KEY, "by": {"S": name}}, ConditionExpression="attribute_not_exists(pk)"
        )
    assert (await read(east), await read(west)) == ("east", "west")
    aws.links.heal()
    await aws.links.settle()
    assert (await read(east), await read(west)) == ("west", "west")
    assert aws.items.dropped == 1


async def test_a_one_way_cut_holds_one_way_only(aws: Front) -> None:
    east, west = await global_table(aws)
    aws.links.set("us-east-1", "us-west-2", cut=True)
    await put(east, "east")
    await aws.links.settle()
    assert await read(west) is None
    assert aws.links.pending() == 1
    await put(west, "west")
    await aws.links.settle()
    assert await read(east) == "west"
    aws.links.heal()
    await aws.links.settle()
    assert (await read(east), await read(west)) == ("west", "west")


async def test_lag_holds_a_write_back(aws: Front) -> None:
    east, west = await global_table(aws)
    aws.links.set(lag_s=1000)
    await put(east, "east")
    assert (await read(east), await read(west)) == ("east", None)
    aws.links.set(lag_s=0)
    await aws.links.settle()
    assert await read(west) == "east"


async def test_every_kind_of_write_arrives(aws: Front) -> None:
    east, west = await global_table(aws)
    await put(east, "put")
    await east.update_item(
        TableName="memory", Key=KEY, UpdateExpression="SET seen = :one", ExpressionAttributeValues={":one": {"N": "1"}}
    )
    batch = [{"PutRequest": {"Item": {"pk": {"S": f"batch-{number}"}}}} for number in range(3)]
    await east.batch_write_item(RequestItems={"memory": batch})
    await east.transact_write_items(TransactItems=[{"Put": {"TableName": "memory", "Item": {"pk": {"S": "t"}}}}])
    await aws.links.settle()
    found = {item["pk"]["S"]: item for item in (await west.scan(TableName="memory"))["Items"]}
    assert set(found) == {"item", "batch-0", "batch-1", "batch-2", "t"}
    assert found["item"]["seen"] == {"N": "1"}
    await west.delete_item(TableName="memory", Key=KEY)
    await aws.links.settle()
    assert await read(east) is None


async def test_three_regions_converge(aws: Front) -> None:
    east, west = await global_table(aws, "us-west-2", "us-east-2")
    third = Client(aws, "dynamodb", "us-east-2")
    aws.links.isolate("us-west-2")
    for number in range(5):
        for client in (east, west, third):
            await put(client, f"{number}")
    aws.links.heal()
    await aws.links.settle()
    assert len({await read(client) for client in (east, west, third)}) == 1


async def test_a_strong_table_has_one_truth_and_needs_two_regions(aws: Front) -> None:
    east, west = Client(aws, "dynamodb", "us-east-1"), Client(aws, "dynamodb", "us-west-2")
    await east.create_table(**TABLE)
    await east.update_table(**strong("us-west-2", witness="us-east-2"))
    await put(west, "west")
    assert await read(east) == "west"
    condition = {"ConditionExpression": "attribute_not_exists(pk)"}
    await refused(east.put_item(TableName="memory", Item=KEY, **condition), "ConditionalCheckFailedException")
    put_all = [{"Put": {"TableName": "memory", "Item": KEY}}]
    await refused(east.transact_write_items(TransactItems=put_all), "ValidationException", "Transactions")
    aws.links.isolate("us-west-2")
    await refused(west.get_item(TableName="memory", Key=KEY, ConsistentRead=True), "InternalServerError")
    await put(east, "east")
    aws.links.heal()
    assert await read(west) == "east"
