"""What every plan is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_sidecar.resource.store_config import PostgresStore, RedisHot

Manifest = Mapping[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True, slots=True)
class Action:
    """One effect on the world. Doing it twice, or being killed before, within or after it, does no harm."""

    def describe(self) -> str:
        """One line for logs and events: what is done to what. No secret."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Apply(Action):
    """Server-side apply of a Kubernetes object: the whole intent, forced for the fields that are ours."""

    manifest: Manifest
    why: str = ""
    """What differed; empty for an object that is not there yet."""

    def describe(self) -> str:
        meta = self.manifest["metadata"]
        text = f"apply {self.manifest['kind']} {meta.get('namespace', '')}/{meta['name']}"
        return f"{text} ({self.why})" if self.why else text


@dataclass(frozen=True, slots=True)
class Remove(Action):
    """Delete a Kubernetes object, of exactly this uid."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    why: str = ""

    def describe(self) -> str:
        return f"delete {self.kind} {self.namespace}/{self.name}" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the status. ``message`` tells the next step where there is one to take."""

    type: ConditionType
    status: bool | None
    """True, False, or None for Unknown."""
    reason: Reason
    message: str = ""


@dataclass(frozen=True, slots=True)
class Provides:
    """What a tier in one region gives to the sidecars' configuration (fields of ``resource.Installation``)."""

    managed_redis: RedisHot | None = None
    embedded_hot: RedisHot | None = None
    embedded_postgres: PostgresStore | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one look at one tier leads to."""

    actions: tuple[Action, ...] = ()
    """In this order; the next look may find more to do. An action that fails ends this tier's cycle, not the others'."""
    conditions: tuple[Condition, ...] = ()
    again_s: float | None = None
    """Look again after so many seconds: something is under way. None: the slow interval will do."""
    provides: Mapping[str, Provides] = field(default_factory=dict)
    """By region; absent while the tier cannot be used yet."""
    drift: tuple[str, ...] = ()
    """What somebody else changed and this plan repairs, one line each, such as ``Bucket acme-us-east-1: policy``."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """By region: a short text for ``status.regions``, such as ``3/3 shards``."""
    withheld: frozenset[str] = frozenset()
    """Regions whose sidecars must not use this tier as it is: it is somebody else's, or not what it must be before the
    first write. What they were given before stays."""
