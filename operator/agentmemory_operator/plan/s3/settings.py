"""A bucket's settings: what ours are, and how they go together with what somebody else has set.

Each setting is as S3 returns it, a policy as JSON. Lists whose entries have names (tags, lifecycle and replication rules,
statements of a policy) are shared: entries of other names stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agentmemory_operator.plan.drift import differences

Value = Mapping[str, Any]

ABORT_UPLOADS_DAYS = 7
NONCURRENT_DAYS = 30
"""How long a version that was overwritten or deleted is kept; Object Lock may keep it longer."""
OURS = "agentmemory"
"""What the names of our rules begin with."""
TLS_ONLY = "AgentMemoryTlsOnly"


class Setting(StrEnum):
    """In the order in which S3 takes them: replication needs versioning, and Object Lock does."""

    TAGS = "tags"
    VERSIONING = "versioning"
    OWNERSHIP = "ownership"
    PUBLIC_ACCESS = "public access block"
    ENCRYPTION = "encryption"
    OBJECT_LOCK = "object lock"
    LIFECYCLE = "lifecycle"
    POLICY = "policy"
    REPLICATION = "replication"


@dataclass(frozen=True, slots=True)
class _List:
    """Where in a setting the shared list is, and what names its entries."""

    name: str
    key: str


_LISTS = {
    Setting.TAGS: _List("TagSet", "Key"),
    Setting.LIFECYCLE: _List("Rules", "ID"),
    Setting.POLICY: _List("Statement", "Sid"),
    Setting.REPLICATION: _List("Rules", "ID"),
}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where objects are copied to."""

    region: str
    bucket: str
    kms_key: str = ""


def tags(wanted: Mapping[str, str]) -> Value:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in sorted(wanted.items())]}


def versioning() -> Value:
    return {"Status": "Enabled"}


def ownership() -> Value:
    return {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


def public_access() -> Value:
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return dict.fromkeys(names, True)


def encryption(kms_key: str) -> Value:
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key} if kms_key else {"SSEAlgorithm": "AES256"}
    rule: dict[str, Any] = {"ApplyServerSideEncryptionByDefault": default}
    return {"Rules": [rule | ({"BucketKeyEnabled": True} if kms_key else {})]}


def has_key(live: Value | None) -> bool:
    """Whether a bucket is encrypted with a key of KMS. Where none is declared it stays: it is no weaker than S3's own."""
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in (live or {}).get("Rules", ())]
    return any(str(default.get("SSEAlgorithm", "")).startswith("aws:kms") for default in defaults)


def object_lock(mode: str, days: int) -> Value:
    return {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": mode.upper(), "Days": days}}}


def lifecycle() -> Value:
    rule = {
        "ID": OURS,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABORT_UPLOADS_DAYS},
        "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }
    return {"Rules": [rule]}


def policy(bucket: str) -> Value:
    arn = f"arn:aws:s3:::{bucket}"
    statement = {
        "Sid": TLS_ONLY,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def replication(role: str, prefix: str, kms_key: str, destinations: tuple[Destination, ...]) -> Value:
    """A rule for each destination. AWS copies no copies, so that every bucket sends to every other one."""
    rules = [
        _rule(number, prefix, kms_key, destination)
        for number, destination in enumerate(sorted(destinations, key=lambda each: each.region), 1)
    ]
    return {"Role": role, "Rules": rules}


def _rule(priority: int, prefix: str, kms_key: str, to: Destination) -> dict[str, Any]:
    target: dict[str, Any] = {"Bucket": f"arn:aws:s3:::{to.bucket}"}
    criteria: dict[str, Any] = {"ReplicaModifications": {"Status": "Enabled"}}
    if kms_key and to.kms_key:
        criteria["SseKmsEncryptedObjects"] = {"Status": "Enabled"}
        target["EncryptionConfiguration"] = {"ReplicaKmsKeyID": to.kms_key}
    return {
        "ID": rule_name(to.region),
        "Priority": priority,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "SourceSelectionCriteria": criteria,
        "Destination": target,
    }


def rule_name(region: str) -> str:
    return f"{OURS}-{region}"


def changed(setting: Setting, wanted: Value, live: Value | None) -> Value | None:
    """What is to be put; None where all that is wanted is so, and nothing of ours is left over."""
    shared = _LISTS.get(setting)
    if shared is None:
        return wanted if differences(wanted, live or {}) else None
    merged = _merged(shared, wanted, live or {})
    left_over = len(merged[shared.name]) != len((live or {}).get(shared.name) or ())
    if left_over or _differs(shared, wanted, live or {}):
        return merged
    return None


def _merged(shared: _List, wanted: Value, live: Value) -> dict[str, Any]:
    ours = list(wanted[shared.name])
    names = {entry[shared.key] for entry in ours}
    theirs = [entry for entry in live.get(shared.name) or () if not _is_ours(shared, entry, names)]
    return {**wanted, shared.name: [*theirs, *ours]}


def _is_ours(shared: _List, entry: Value, names: set[str]) -> bool:
    name = str(entry.get(shared.key, ""))
    return name in names or (shared.key == "ID" and (name == OURS or name.startswith(f"{OURS}-")))


def _differs(shared: _List, wanted: Value, live: Value) -> bool:
    have = {entry.get(shared.key): entry for entry in live.get(shared.name) or ()}
    rest = {name: value for name, value in wanted.items() if name != shared.name}
    if any(differences(entry, have.get(entry[shared.key]) or {}) for entry in wanted[shared.name]):
        return True
    return bool(live) and bool(differences(rest, live))


def without(setting: Setting, live: Value | None, names: frozenset[str]) -> Value | None:
    """What is left of a shared list without the entries of these names; None where none of them is there."""
    shared = _LISTS[setting]
    entries = (live or {}).get(shared.name) or ()
    kept = [entry for entry in entries if entry.get(shared.key) not in names]
    return None if len(kept) == len(entries) else {**(live or {}), shared.name: kept}
