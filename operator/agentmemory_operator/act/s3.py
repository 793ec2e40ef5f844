"""Effects on buckets. Each may be done twice: what is done already is no error."""

import json
from typing import Any

from agentmemory_operator.aws import Access, Aws, AwsRefused
from agentmemory_operator.observe.s3 import owned
from agentmemory_operator.plan.s3.settings import Setting
from agentmemory_operator.plan.s3.values import (
    BucketAction,
    CreateBucket,
    DeleteBucket,
    EmptyBucket,
    PutSetting,
    StopReplication,
)

PUTS = {
    Setting.TAGS: ("put_bucket_tagging", "Tagging"),
    Setting.VERSIONING: ("put_bucket_versioning", "VersioningConfiguration"),
    Setting.OWNERSHIP: ("put_bucket_ownership_controls", "OwnershipControls"),
    Setting.PUBLIC_ACCESS: ("put_public_access_block", "PublicAccessBlockConfiguration"),
    Setting.ENCRYPTION: ("put_bucket_encryption", "ServerSideEncryptionConfiguration"),
    Setting.OBJECT_LOCK: ("put_object_lock_configuration", "ObjectLockConfiguration"),
    Setting.LIFECYCLE: ("put_bucket_lifecycle_configuration", "LifecycleConfiguration"),
    Setting.POLICY: ("put_bucket_policy", "Policy"),
    Setting.REPLICATION: ("put_bucket_replication", "ReplicationConfiguration"),
}
"""The operation and the argument that takes the setting."""

DONE = {
    CreateBucket: "BucketAlreadyOwnedByYou",
    DeleteBucket: "NoSuchBucket",
    StopReplication: "ReplicationConfigurationNotFoundError",
}
"""The refusal that says that it has just been done."""

PAGES = 50
"""Of a thousand versions, the most that one action deletes: the loop goes on with the next."""


async def act(aws: Aws, access: Access, action: BucketAction) -> int:
    """Carry out an action with the access of its region; returns how many versions could not be deleted.

    Raises AwsRefused and AwsAway; TypeError for an action that is unknown.
    """
    if isinstance(action, EmptyBucket):
        return await empty(aws, access, action.bucket)
    operation, arguments = call(access, action)
    try:
        await aws.call(access, "s3", operation, **arguments)
    except AwsRefused as error:
        if error.code != DONE.get(type(action)):
            raise
    return 0


def call(access: Access, action: BucketAction) -> tuple[str, dict[str, Any]]:
    """The AWS operation and its arguments. Pure."""
    named: dict[str, Any] = dict(owned(access, action.bucket))
    match action:
        case CreateBucket():
            place: dict[str, Any] = {"Tags": [{"Key": k, "Value": v} for k, v in sorted(action.tags.items())]}
            if action.region != "us-east-1":  # which S3 wants to be left out
                place["LocationConstraint"] = action.region
            return "create_bucket", {
                "Bucket": action.bucket,
                "CreateBucketConfiguration": place,
                "ObjectLockEnabledForBucket": action.lock,
                "ObjectOwnership": "BucketOwnerEnforced",
            }
        case PutSetting():
            operation, argument = PUTS[action.setting]
            value = json.dumps(action.value) if action.setting is Setting.POLICY else dict(action.value)
            return operation, named | {argument: value}
        case StopReplication():
            return "delete_bucket_replication", named
        case DeleteBucket():
            return "delete_bucket", named
        case _:
            raise TypeError(f"no effect on buckets: {type(action).__name__}")


async def empty(aws: Aws, access: Access, bucket: str) -> int:
    """Delete every version that Object Lock lets go, without bypassing it; returns how many it has kept."""
    named, kept, start = owned(access, bucket), 0, dict[str, str]()
    for _ in range(PAGES):
        page = await aws.call(access, "s3", "list_object_versions", **named, **start)
        entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if entries:
            versions = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            doomed = {"Objects": versions, "Quiet": True}
            answer = await aws.call(access, "s3", "delete_objects", Delete=doomed, **named)
            kept += len(answer.get("Errors", ()))
        if not page.get("IsTruncated"):
            break
        start = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    return kept
