"""What plans about buckets are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentmemory_operator.plan.aws import Owner, Standing
from agentmemory_operator.plan.s3.settings import Setting, Value
from agentmemory_operator.plan.values import Action


@dataclass(frozen=True, slots=True)
class Place:
    """One region of the resource and its bucket."""

    region: str
    aws_region: str
    bucket: str
    kms_key: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """Object Lock's default retention."""

    mode: str
    days: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the resource declares."""

    places: tuple[Place, ...]
    """In the resource's order. The first bucket is made first: who makes it, makes the others."""
    owner: Owner
    leaving: tuple[Place, ...] = ()
    lock: Lock | None = None
    role: str = ""
    """The role that S3 replicates with."""
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A bucket as it is."""

    away: str = ""
    """Why it could not be looked at; empty if it could. Then nothing else is known."""
    denied: bool = False
    there: bool = False
    foreign: str = ""
    """Why it cannot be ours, although it exists; then nothing of its settings is known."""
    settings: Mapping[Setting, Value | None] = field(default_factory=dict)
    filled: bool = False
    """Whether it holds any version; looked at only when it is to be deleted."""
    stuck: int = 0
    """How many versions could not be deleted when it was last tried."""

    @property
    def tags(self) -> dict[str, str]:
        entries = (self.settings.get(Setting.TAGS) or {}).get("TagSet", ())
        return {tag["Key"]: tag["Value"] for tag in entries}

    def standing(self, owner: Owner) -> Standing:
        return owner.standing(self.tags)

    def has(self, setting: Setting, name: str, value: Any) -> bool:
        return bool((self.settings.get(setting) or {}).get(name) == value)


@dataclass(frozen=True, slots=True)
class BucketAction(Action):
    """Something done to one bucket."""

    bucket: str
    region: str
    """AWS's."""


@dataclass(frozen=True, slots=True)
class CreateBucket(BucketAction):
    tags: Mapping[str, str]
    lock: bool

    def describe(self) -> str:
        return f"create bucket {self.bucket} in {self.region}"


@dataclass(frozen=True, slots=True)
class PutSetting(BucketAction):
    setting: Setting
    value: Value

    def describe(self) -> str:
        return f"set {self.setting} of bucket {self.bucket}"


@dataclass(frozen=True, slots=True)
class StopReplication(BucketAction):
    def describe(self) -> str:
        return f"stop the replication of bucket {self.bucket}"


@dataclass(frozen=True, slots=True)
class EmptyBucket(BucketAction):
    """As far as Object Lock lets it."""

    def describe(self) -> str:
        return f"empty bucket {self.bucket}"


@dataclass(frozen=True, slots=True)
class DeleteBucket(BucketAction):
    def describe(self) -> str:
        return f"delete bucket {self.bucket}"
