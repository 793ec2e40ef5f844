"""Tables as they are."""

from collections.abc import Mapping
from typing import Any

from agentmemory_operator.aws import Access, Aws, AwsAway, AwsRefused
from agentmemory_operator.plan.dynamodb.values import ACTIVE, Seen
from agentmemory_sidecar.layout.dynamodb import EXPIRES, table_definition


async def table_in(aws: Aws, access: Access, table: str, *, look_inside: bool = False) -> Seen:
    """The table in one region. ``look_inside``: whether it is empty. Raises nothing that AWS says or does not say."""
    try:
        return await _seen(aws, access, table, look_inside=look_inside)
    except AwsAway as error:
        return Seen(away=str(error))
    except AwsRefused as error:
        return Seen(away=str(error), denied=error.denied)


async def _seen(aws: Aws, access: Access, table: str, *, look_inside: bool) -> Seen:
    try:
        described = (await aws.call(access, "dynamodb", "describe_table", TableName=table))["Table"]
    except AwsRefused as error:
        if error.code == "ResourceNotFoundException":
            return Seen()
        raise
    arn = described["TableArn"]
    status = described["TableStatus"]
    # AWS answers the other questions only once the table is there.
    settled = status in (ACTIVE, "UPDATING")
    tags = await _tags(aws, access, arn)
    witnesses = described.get("GlobalTableWitnesses") or [{}]
    return Seen(
        status=status,
        arn=arn,
        tags=tags,
        protection=bool(described.get("DeletionProtectionEnabled")),
        recovery=settled and await _recovery(aws, access, table),
        expires=settled and await _expires(aws, access, table),
        empty=not look_inside or not settled or await _empty(aws, access, table),
        kms_key=described.get("SSEDescription", {}).get("KMSMasterKeyArn", ""),
        unlike=tuple(unlike(described)),
        replicas={
            each["RegionName"]: each.get("ReplicaStatus", "")
            for each in described.get("Replicas", ())
            if each["RegionName"] != access.region
        },
        strong=described.get("MultiRegionConsistency") == "STRONG",
        witness=witnesses[0].get("RegionName", ""),
    )


def unlike(described: Mapping[str, Any]) -> list[str]:
    """In what a table is not laid out as a sidecar needs it."""
    wanted = table_definition(described["TableName"]).create
    found = []
    if _keys(described) != _keys(wanted):
        found.append(f"its key is {_keys(described)}, not {_keys(wanted)}")
    types = {each["AttributeName"]: each["AttributeType"] for each in described.get("AttributeDefinitions", ())}
    if any(types.get(each["AttributeName"]) != each["AttributeType"] for each in wanted["AttributeDefinitions"]):
        found.append("its key attributes are not all strings")
    have = {index["IndexName"]: _keys(index) for index in described.get("GlobalSecondaryIndexes") or ()}
    for index in wanted["GlobalSecondaryIndexes"]:
        name = index.get("IndexName", "")
        if have.get(name) != _keys(index):
            found.append(f"it has no index {name} over {_keys(index)}")
    stream = described.get("StreamSpecification") or {}
    if stream.get("StreamViewType") != "NEW_AND_OLD_IMAGES":
        found.append("it has no stream of new and old images, by which replicas are made")
    return found


def _keys(table: Mapping[str, Any]) -> str:
    return " and ".join(key["AttributeName"] for key in table.get("KeySchema", ()))


async def _tags(aws: Aws, access: Access, arn: str) -> dict[str, str]:
    found: dict[str, str] = {}
    page: dict[str, Any] = {}
    while True:
        answer = await aws.call(access, "dynamodb", "list_tags_of_resource", ResourceArn=arn, **page)
        found |= {tag["Key"]: tag["Value"] for tag in answer.get("Tags", ())}
        if not answer.get("NextToken"):
            return found
        page = {"NextToken": answer["NextToken"]}


async def _recovery(aws: Aws, access: Access, table: str) -> bool:
    answer = await aws.call(access, "dynamodb", "describe_continuous_backups", TableName=table)
    status = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    return bool(status.get("PointInTimeRecoveryStatus") == "ENABLED")


async def _expires(aws: Aws, access: Access, table: str) -> bool:
    answer = await aws.call(access, "dynamodb", "describe_time_to_live", TableName=table)
    told = answer["TimeToLiveDescription"]
    return told.get("TimeToLiveStatus") in ("ENABLED", "ENABLING") and told.get("AttributeName") == EXPIRES


async def _empty(aws: Aws, access: Access, table: str) -> bool:
    # A table's own item count lags by hours.
    answer = await aws.call(access, "dynamodb", "scan", TableName=table, Limit=1, Select="COUNT")
    return not answer.get("Count")
