"""Effects on tables. Each may be done twice: what is done already is no error."""

from typing import Any

from agentmemory_operator.aws import Access, Aws, AwsRefused
from agentmemory_operator.plan.dynamodb.values import (
    CreateReplica,
    CreateTable,
    DeleteReplica,
    DeleteTable,
    DissolveStrong,
    MakeStrong,
    SetExpiry,
    SetKey,
    SetProtection,
    SetRecovery,
    TableAction,
    TagTable,
    UntagTable,
)
from agentmemory_sidecar.layout.dynamodb import table_definition


async def act(aws: Aws, access: Access, action: TableAction) -> None:
    """Carry out an action with the access of its region. Raises AwsRefused and AwsAway; TypeError for one unknown."""
    operation, arguments = call(action)
    try:
        await aws.call(access, "dynamodb", operation, **arguments)
    except AwsRefused as error:
        if not done_already(action, error):
            raise


def call(action: TableAction) -> tuple[str, dict[str, Any]]:
    """The AWS operation and its arguments. Pure."""
    name = {"TableName": action.table}
    match action:
        case CreateTable():
            definition = table_definition(
                action.table,
                deletion_protection=action.protection,
                kms_key=action.kms_key or None,
                tags=action.tags,
            )
            return "create_table", {**definition.create}
        case TagTable():
            tags = [{"Key": key, "Value": value} for key, value in sorted(action.tags.items())]
            return "tag_resource", {"ResourceArn": action.arn, "Tags": tags}
        case UntagTable():
            return "untag_resource", {"ResourceArn": action.arn, "TagKeys": list(action.names)}
        case SetRecovery():
            enabled = {"PointInTimeRecoveryEnabled": action.enabled}
            return "update_continuous_backups", name | {"PointInTimeRecoverySpecification": enabled}
        case SetExpiry():
            return "update_time_to_live", {**table_definition(action.table).time_to_live}
        case SetProtection():
            return "update_table", name | {"DeletionProtectionEnabled": action.enabled}
        case SetKey():
            encryption = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": action.kms_key}
            return "update_table", name | {"SSESpecification": encryption}
        case CreateReplica():
            return "update_table", name | {"ReplicaUpdates": [_creation(action.target, action.kms_key)]}
        case DeleteReplica():
            return "update_table", name | {"ReplicaUpdates": [{"Delete": {"RegionName": action.target}}]}
        case MakeStrong():
            creations = [_creation(place.aws_region, place.kms_key) for place in action.targets]
            strong = {"MultiRegionConsistency": "STRONG", "ReplicaUpdates": creations}
            return "update_table", name | strong | _witness("Create", action.witness)
        case DissolveStrong():
            deletions = [{"Delete": {"RegionName": region}} for region in action.targets]
            return "update_table", name | {"ReplicaUpdates": deletions} | _witness("Delete", action.witness)
        case DeleteTable():
            return "delete_table", name
        case _:
            raise TypeError(f"no effect on tables: {type(action).__name__}")


def done_already(action: TableAction, error: AwsRefused) -> bool:
    """Whether a refusal says that somebody, or an operator before this one, has just done it."""
    match action:
        case DeleteReplica():
            return error.code == "ReplicaNotFoundException"
        case DeleteTable():
            return error.code == "ResourceNotFoundException"
        case SetExpiry():
            return "already enabled" in str(error)
        case _:
            return False


def _creation(region: str, kms_key: str) -> dict[str, Any]:
    return {"Create": {"RegionName": region} | ({"KMSMasterKeyId": kms_key} if kms_key else {})}


def _witness(kind: str, region: str) -> dict[str, Any]:
    return {"GlobalTableWitnessUpdates": [{kind: {"RegionName": region}}]} if region else {}
