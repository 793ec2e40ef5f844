"""Buckets as they are."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from agentmemory_operator.aws import Access, Aws, AwsAway, AwsRefused
from agentmemory_operator.plan.s3.settings import Setting, Value
from agentmemory_operator.plan.s3.values import Place, Seen


@dataclass(frozen=True, slots=True)
class Question:
    """How a setting is asked for."""

    operation: str
    member: str
    """The member of the answer that holds it; empty for the answer itself."""
    absent: str = ""
    """The refusal that means that there is none."""


QUESTIONS = {
    Setting.TAGS: Question("get_bucket_tagging", "", "NoSuchTagSet"),
    Setting.VERSIONING: Question("get_bucket_versioning", ""),
    Setting.OWNERSHIP: Question("get_bucket_ownership_controls", "OwnershipControls", "OwnershipControlsNotFoundError"),
    Setting.PUBLIC_ACCESS: Question(
        "get_public_access_block", "PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration"
    ),
    Setting.ENCRYPTION: Question(
        "get_bucket_encryption",
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    Setting.OBJECT_LOCK: Question(
        "get_object_lock_configuration", "ObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"
    ),
    Setting.LIFECYCLE: Question("get_bucket_lifecycle_configuration", "", "NoSuchLifecycleConfiguration"),
    Setting.POLICY: Question("get_bucket_policy", "Policy", "NoSuchBucketPolicy"),
    Setting.REPLICATION: Question(
        "get_bucket_replication", "ReplicationConfiguration", "ReplicationConfigurationNotFoundError"
    ),
}


async def bucket_at(aws: Aws, access: Access, place: Place, *, look_inside: bool = False, stuck: int = 0) -> Seen:
    """The bucket of a place. ``look_inside``: whether it holds anything. Raises nothing that AWS says or does not."""
    try:
        return await _seen(aws, access, place, look_inside=look_inside, stuck=stuck)
    except AwsAway as error:
        return Seen(away=str(error))
    except AwsRefused as error:
        return Seen(away=str(error), denied=error.denied)


async def _seen(aws: Aws, access: Access, place: Place, *, look_inside: bool, stuck: int) -> Seen:
    named = owned(access, place.bucket)
    try:
        head = await aws.call(access, "s3", "head_bucket", **named)
    except AwsRefused as error:
        if error.code in ("404", "NoSuchBucket"):
            return Seen()
        if error.code in ("403", "AccessDenied"):
            text = (
                f"Bucket {place.bucket} exists, and may not be looked at: it is somebody else's, or the operator's "
                "role lacks s3:ListBucket; choose another bucketPrefix, or grant it"
            )
            return Seen(there=True, foreign=text)
        raise
    region = head.get("BucketRegion") or access.region
    if region != access.region:
        text = f"Bucket {place.bucket} is in {region}, not in {access.region}: choose another bucketPrefix"
        return Seen(there=True, foreign=text)
    answers = await asyncio.gather(*(_setting(aws, access, named, question) for question in QUESTIONS.values()))
    filled = False
    if look_inside:
        listed = await aws.call(access, "s3", "list_object_versions", MaxKeys=1, **named)
        filled = bool(listed.get("Versions") or listed.get("DeleteMarkers"))
    return Seen(there=True, settings=dict(zip(QUESTIONS, answers, strict=True)), filled=filled, stuck=stuck)


async def _setting(aws: Aws, access: Access, named: dict[str, str], question: Question) -> Value | None:
    try:
        answer = await aws.call(access, "s3", question.operation, **named)
    except AwsRefused as error:
        if question.absent and error.code == question.absent:
            return None
        raise
    found: Any = answer.get(question.member) if question.member else answer
    if question.operation == "get_bucket_policy":
        return dict(json.loads(found))
    return {name: value for name, value in found.items() if name != "ResponseMetadata"}


def owned(access: Access, bucket: str) -> dict[str, str]:
    """The arguments that name a bucket, and its account where that is known: a name says nothing about whose it is."""
    return {"Bucket": bucket} | ({"ExpectedBucketOwner": access.account} if access.account else {})
