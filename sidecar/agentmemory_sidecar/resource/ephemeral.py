"""`spec.ephemeral`: the hot tier, which holds locks and the latest turns. Losing it loses speed, never memory."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentmemory_sidecar.resource.base import Choice, Model
from agentmemory_sidecar.resource.common import PER_REGION, Embedded, PodResources, Pods, Storage, Tls, ValueFrom
from agentmemory_sidecar.resource.values import Between, Duration, Line, RedisUrl, RegionName, Secret

Turns = Annotated[int, Field(ge=1, le=100)]
HotTtl = Annotated[Duration, Between("1s", "7d")]


class HotUnavailable(StrEnum):
    """What a turn does when the hot tier cannot be reached."""

    DEGRADED = "Degraded"
    REFUSE = "Refuse"


class RegionalManagedRedis(Model):
    """What differs in one region."""

    region: RegionName
    """The region this entry is for; one of `spec.regions`."""
    shards: Annotated[int, Field(ge=3, le=100)] | None = None
    """Primaries in this region."""
    replicas: Annotated[int, Field(ge=0, le=5)] | None = None
    """Replicas of each primary in this region."""
    resources: PodResources | None = None
    """Requests and limits of each pod in this region."""
    storage: Storage | None = None
    """The volume of each pod in this region."""


class ManagedRedis(Pods):
    """A Redis Cluster in each region, run by the operator. On a cluster only: a laptop takes `embedded`."""

    shards: Annotated[int, Field(ge=3, le=100)] = 3
    """Primaries, which share the keys; at least 3, so that they can elect one another's successors."""
    replicas: Annotated[int, Field(ge=0, le=5)] = 1
    """Replicas of each primary; with 0 a lost node loses its part of the hot tier until it is back."""
    per_region: tuple[RegionalManagedRedis, ...] = PER_REGION
    """What differs in a region, keyed by region; what an entry does not name is as above."""


class RedisAccess(Model):
    """How to reach a Redis that somebody else runs."""

    choices = (Choice(("password", "passwordFrom"), "there is one password", required=False),)

    urls: Annotated[tuple[RedisUrl, ...], Field(min_length=1, max_length=16)] | None = None
    """`redis://HOST:PORT`, or `rediss://HOST:PORT` for TLS; for a Redis Cluster, some of its nodes."""
    cluster: bool | None = None
    """Whether it is a Redis Cluster; without it, it is not."""
    username: Line | None = None
    """The ACL user; without it, Redis's `default`."""
    password: Secret | None = None
    """The password itself: for laptops only, because everybody who reads the YAML reads it."""
    password_from: ValueFrom | None = None
    """Where the password comes from."""
    tls: Tls | None = None
    """TLS settings for `rediss://` URLs."""


class RegionalRedis(RedisAccess):
    """What differs in one region."""

    region: RegionName
    """The region this entry is for; one of `spec.regions`."""


class ExternalRedis(RedisAccess):
    """A Redis or Valkey that somebody else runs (ElastiCache and the like). One a region: it must not be stretched."""

    per_region: tuple[RegionalRedis, ...] = PER_REGION
    """What differs in a region, keyed by region; what an entry does not name is as above."""


class Redis(Model):
    """The hot tier in Redis or Valkey."""

    choices = (Choice(("managed", "external"), "a Redis is either run by the operator or by you"),)

    managed: ManagedRedis | None = None
    """Run by the operator, in every region."""
    external: ExternalRedis | None = None
    """Run by somebody else."""
    turns: Turns | None = None
    """The same as `ephemeral.turns`, and wins over it."""
    ttl: HotTtl | None = None
    """The same as `ephemeral.ttl`, and wins over it."""


class Ephemeral(Model):
    """The hot tier: locks, the latest turns and the ledger's cache. Without `redis` it is embedded."""

    choices = (Choice(("redis", "embedded"), "there is one hot tier", required=False),)

    redis: Redis | None = None
    """A Redis or Valkey, managed or external."""
    embedded: Embedded | None = None
    """A Valkey of ours; also what an omitted tier means."""
    turns: Turns = 5
    """How many finished turns the window keeps, in the hot tier and in the state item (turns)."""
    ttl: HotTtl = Duration.parse("15m")
    """How long the hot copy of a session lives after its last turn."""
    on_unavailable: HotUnavailable = HotUnavailable.DEGRADED
    """With the hot tier gone: `Degraded` locks the state item itself and goes on, slower; `Refuse` answers 503."""
    timeout: Annotated[Duration, Between("10ms", "30s")] = Duration.parse("500ms")
    """The longest one call to the hot tier may take."""
