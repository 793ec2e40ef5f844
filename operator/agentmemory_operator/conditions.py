"""Every condition type and reason there is. `docs/conditions.md` explains each, and a test holds the two together."""

from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    """The summary: agents can use the memory as declared."""
    CONFIGURED = "Configured"
    """The sidecars' configuration is written."""
    REDIS_READY = "RedisReady"
    """The hot tier serves."""
    STATE_READY = "StateReady"
    """The state tier serves."""
    ARCHIVE_READY = "ArchiveReady"
    """The archive serves."""
    REPLICATION_HEALTHY = "ReplicationHealthy"
    """What is written in one region of an eventual table soon arrives in the others."""
    DRIFT_DETECTED = "DriftDetected"
    """Somebody else changed what the operator keeps; True only while it is so."""
    RESTART_NEEDED = "RestartNeeded"
    """Pods must be made anew before a change reaches them."""
    NOT_FOR_PRODUCTION = "NotForProduction"
    """An embedded tier holds data in one copy."""
    DELETING = "Deleting"
    """The resource is being deleted; says what stands in the way."""


class Reason(StrEnum):
    """Why a condition is as it is."""

    # Good
    READY = "Ready"
    WRITTEN = "Written"
    EXTERNAL = "External"
    MANAGED_ELSEWHERE = "ManagedElsewhere"
    SINGLE_REGION_STATE = "SingleRegionState"
    NO_DRIFT = "NoDrift"
    UP_TO_DATE = "UpToDate"
    RETAINED = "Retained"

    # Under way
    PROGRESSING = "Progressing"
    CREATING = "Creating"
    FORMING = "Forming"
    HEALING = "Healing"
    SCALING = "Scaling"
    ROLLING = "Rolling"
    REPLICATING = "Replicating"
    WAITING = "Waiting"

    # Bad: somebody must do something
    INVALID_SPEC = "InvalidSpec"
    NOT_SUPPORTED_YET = "NotSupportedYet"
    SECRET_MISSING = "SecretMissing"  # noqa: S105
    ADOPTION_REFUSED = "AdoptionRefused"
    FOREIGN_OBJECT = "ForeignObject"
    ACCESS_DENIED = "AccessDenied"
    UNREACHABLE = "Unreachable"
    IMMUTABLE_SETTING = "ImmutableSetting"
    DEGRADED = "Degraded"
    DATA_AT_RISK = "DataAtRisk"
    NO_NODES = "NoNodes"
    REGION_NOT_HELD = "RegionNotHeld"
    REGION_UNREACHABLE = "RegionUnreachable"
    REPLICATION_LAGGING = "ReplicationLagging"
    FAILED = "Failed"
    REPAIRED = "Repaired"
    EMBEDDED = "Embedded"
    OBSERVE_ONLY = "ObserveOnly"
    POD_TEMPLATE_CHANGED = "PodTemplateChanged"
    NOT_EMPTY = "NotEmpty"
