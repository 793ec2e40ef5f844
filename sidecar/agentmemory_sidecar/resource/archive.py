"""`spec.archive`: append-only records and blobs, sealed with a key for each data subject."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentmemory_sidecar.resource.base import Choice, Model, immutable
from agentmemory_sidecar.resource.common import PER_REGION, AwsAccess, Embedded
from agentmemory_sidecar.resource.state import Postgres
from agentmemory_sidecar.resource.values import Arn, Between, Duration, Labels, Line, RegionName, Size, Text


class LockMode(StrEnum):
    """S3 Object Lock modes."""

    GOVERNANCE = "Governance"
    COMPLIANCE = "Compliance"


class ObjectLock(Model):
    """S3 Object Lock: for how long nobody can change or delete a record."""

    mode: LockMode = LockMode.GOVERNANCE
    """`Governance` (a special permission lifts it) or `Compliance` (nobody can, not even AWS's root user)."""
    days: Annotated[int, Field(ge=1, le=36500)]
    """Days from the moment a record is written."""


class BucketReplication(Model):
    """Two-way replication between the regions' buckets."""

    role_arn: Arn | None = None
    """The role that S3 assumes to replicate; without it, the installation's default (a Helm value)."""


class RegionalS3(AwsAccess):
    """What differs in one region."""

    region: RegionName
    """The region this entry is for; one of `spec.regions`."""
    bucket: Annotated[str, Text("^[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]$", "an S3 bucket name", longest=63)] | None = None
    """An existing bucket, where it is not called `<bucketPrefix>-<region>`."""


class S3(AwsAccess):
    """A bucket in each region, called `<bucketPrefix>-<region>`."""

    bucket_prefix: Annotated[
        str, Text("^[a-z0-9][-a-z0-9]{1,35}[a-z0-9]$", "3 to 37 lower-case letters, digits and dashes", longest=37)
    ] = Field(json_schema_extra=immutable("the records are in these buckets; make a new resource for others"))
    """What every bucket's name begins with. Immutable."""
    key_prefix: Annotated[str, Text("^[-_./a-zA-Z0-9]*$", "letters, digits and -_./", longest=256, shortest=0)] = ""
    """What every key begins with, such as `memory/`."""
    path_style: bool = False
    """Whether the bucket is in the path and not in the host name; with an `endpoint` it always is."""
    object_lock: ObjectLock | None = None
    """Makes records unchangeable for a time; without it, only the operator's and the bucket's policies protect them.
    The bucket must have been made with Object Lock, and the role needs `s3:PutObjectRetention`."""
    replication: BucketReplication | None = None
    """Settings of the replication between regions; with several regions it is always on."""
    tags: Labels = Field(default_factory=dict)
    """AWS tags for the buckets, beside our ownership tags."""
    per_region: tuple[RegionalS3, ...] = PER_REGION
    """What differs in a region, keyed by region; what an entry does not name is as above."""


class Blobs(Model):
    """Values too large for the state item."""

    threshold: Annotated[Size, Between("1Ki", "256Ki")] = Size.parse("16Ki")
    """Values larger than this (bytes) go to the blob store; the item keeps a link and a summary."""


class Retention(Model):
    """How long the archive keeps what it has. Object Lock may keep it longer."""

    records: Annotated[Duration, Between("1d", "36500d")] | None = None
    """Records of turns; without it, for ever."""
    blobs: Annotated[Duration, Between("1d", "36500d")] | None = None
    """Blobs; without it, as long as a record links to them."""


class RegionalKms(Model):
    """The KMS key of one region."""

    region: RegionName
    """The region this entry is for; one of `spec.regions`."""
    key_arn: Arn
    """The key that wraps the subjects' keys in this region."""


class KmsKeys(Model):
    """Subjects' keys wrapped by AWS KMS."""

    key_arn: Arn | None = None
    """The wrapping key for every region without an entry; a multi-region key suits best."""
    per_region: tuple[RegionalKms, ...] = PER_REGION
    """The wrapping key of a region, keyed by region."""


class LocalKeys(Model):
    """Subjects' keys as files. They must be on a disk that is not backed up for longer than an erasure may take."""

    directory: Line | None = None
    """The folder; without it, `keys` in the data folder."""


class Keys(Model):
    """Where the keys are that seal records and blobs, one for each data subject. Without a choice: local."""

    choices = (Choice(("kms", "local"), "a key is kept in one place", required=False),)

    kms: KmsKeys | None = None
    """Wrapped by AWS KMS."""
    local: LocalKeys | None = None
    """Files of the sidecar."""


class Archive(Model):
    """The archive: append-only records and blobs. Without a store it is embedded."""

    choices = (Choice(("s3", "postgres", "embedded"), "there is one archive", required=False),)

    s3: S3 | None = None
    """A bucket in each region, with two-way replication."""
    postgres: Postgres | None = None
    """Tables that refuse update and delete, in a Postgres that somebody else runs."""
    embedded: Embedded | None = None
    """A Postgres of ours; also what an omitted tier means."""
    blobs: Blobs = Blobs()
    """Values too large for the state item."""
    retention: Retention = Retention()
    """How long records and blobs are kept."""
    keys: Keys = Keys()
    """Where the sealing keys are."""
    timeout: Annotated[Duration, Between("100ms", "5m")] = Duration.parse("10s")
    """The longest one call to the archive may take. No turn waits for it."""
