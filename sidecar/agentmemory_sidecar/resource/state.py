"""`spec.state`: the truth. One item for each conversation, written under a condition on its versions."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from agentmemory_sidecar.resource.base import FREE_FORM, Choice, Model, immutable
from agentmemory_sidecar.resource.common import PER_REGION, AwsAccess, Embedded, Tls, ValueFrom
from agentmemory_sidecar.resource.scopes import Grant, Scope, ScopeEntry
from agentmemory_sidecar.resource.values import (
    Between,
    Dsn,
    Duration,
    HttpUrl,
    Id,
    Labels,
    ObjectName,
    Pointer,
    RegionName,
    Text,
)

SqlName = Annotated[str, Text(r"^[a-z_][a-z0-9_]*$", "a lower-case SQL name", longest=63)]
SchemaVersion = Annotated[
    str, Text(r"^[0-9]+(\.[0-9]+){0,2}$", 'a schema version in quotes, such as "2.1"', longest=32)
]


STRONG_SETS = (
    frozenset({"us-east-1", "us-east-2", "us-west-2"}),
    frozenset({"eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1"}),
    frozenset({"ap-northeast-1", "ap-northeast-2", "ap-northeast-3"}),
)
"""The sets of regions within which AWS offers strongly consistent global tables."""


class StateUnavailable(StrEnum):
    """What a turn does when the state tier cannot be reached."""

    REFUSE = "Refuse"
    PASS_THROUGH = "PassThrough"  # noqa: S105


class StaleReads(StrEnum):
    """What a turn does when the tier is known to be behind."""

    REFUSE = "Refuse"
    SERVE = "Serve"


class MergeStrategy(StrEnum):
    """What becomes of values that two regions wrote at one place, neither having seen the other's."""

    KEEP_BOTH = "KeepBoth"
    LATEST = "Latest"
    UNION = "Union"


class Consistency(StrEnum):
    """A global table's consistency between regions."""

    EVENTUAL = "Eventual"
    STRONG = "Strong"


class RegionalAws(AwsAccess):
    """What differs in one region."""

    region: RegionName
    """The region this entry is for; one of `spec.regions`."""


class DynamoDb(AwsAccess):
    """A DynamoDB table; with several regions, a global table (version 2019.11.21)."""

    cel = (
        (
            "!has(self.witnessRegion) || self.consistency == 'Strong'",
            "witnessRegion has a use with consistency Strong only: leave it out",
        ),
    )

    table: Annotated[str, Text(r"^[-_.a-zA-Z0-9]{3,255}$", "a DynamoDB table name", longest=255)] = Field(
        json_schema_extra=immutable("the sessions are in this table; make a new resource for another one")
    )
    """The table's name, the same in every region. Immutable."""
    consistency: Consistency = Field(
        default=Consistency.EVENTUAL, json_schema_extra=immutable("AWS fixes a table's consistency when it is made")
    )
    """Between regions: `Eventual` (a head for each region, merged on read), or `Strong` (three regions). Immutable."""
    witness_region: RegionName | None = None
    """For `Strong` with two regions: the third, which votes but holds no data."""
    point_in_time_recovery: bool = True
    """Whether every replica can be restored to any second of the last 35 days."""
    deletion_protection: bool = True
    """Whether AWS refuses to delete the table until this is turned off."""
    tags: Labels = Field(default_factory=dict)
    """AWS tags for the table, beside our ownership tags."""
    per_region: tuple[RegionalAws, ...] = PER_REGION
    """What differs in a region, keyed by region; what an entry does not name is as above."""


class CosmosAccess(Model):
    """How to reach an Azure CosmosDB account."""

    endpoint: HttpUrl | None = None
    """The account's URL, such as `https://acme.documents.azure.com:443/`."""
    key_from: ValueFrom | None = None
    """The account key. Workload identities (no `keyFrom`, `clientId`) are not supported yet."""
    client_id: Id | None = None
    """The managed identity's client id, for workload identity."""
    tls: Tls | None = None
    """TLS settings for `endpoint`."""


class RegionalCosmos(CosmosAccess):
    """What differs in one region."""

    region: RegionName
    """The region this entry is for; one of `spec.regions`."""
    preferred_locations: Annotated[tuple[Id, ...], Field(max_length=16)] = ()
    """Azure locations, such as `East US`, the nearest first. With `multiRegionWrites` this region writes in the first."""


class CosmosDb(CosmosAccess):
    """An Azure CosmosDB container (NoSQL API)."""

    database: Id
    """The database's name."""
    container: Id = Field(json_schema_extra=immutable("the sessions are in this container"))
    """The container's name. Immutable."""
    multi_region_writes: bool = Field(
        default=False, json_schema_extra=immutable("it decides which items a region writes; make a new resource")
    )
    """Whether the account takes writes in each of its regions: then each region of the resource writes a head of its own,
    in the first of its `preferredLocations`, and all are merged on read. It must be as the account is. Immutable."""
    max_throughput: Annotated[int, Field(ge=1000, le=1_000_000)] | None = None
    """The upper bound of autoscaled throughput (request units a second); without it, serverless."""
    per_region: tuple[RegionalCosmos, ...] = PER_REGION
    """What differs in a region, keyed by region; what an entry does not name is as above."""


class ClusterRef(Model):
    """A CloudNativePG `Cluster` in the resource's namespace."""

    name: ObjectName
    """The Cluster's name; its `<name>-app` Secret gives the DSN."""
    database: SqlName | None = None
    """The database; without it, the one the Secret names."""


class PostgresAccess(Model):
    """How to reach a Postgres."""

    choices = (Choice(("dsn", "dsnFrom", "clusterRef"), "there is one database to connect to", required=False),)

    dsn: Dsn | None = None
    """`postgresql://USER:PASSWORD@HOST/DATABASE` itself: for laptops only, whoever reads the YAML reads it."""
    dsn_from: ValueFrom | None = None
    """Where the DSN comes from."""
    cluster_ref: ClusterRef | None = None
    """A CloudNativePG Cluster, which names its own Secret. On a cluster only."""
    admin_dsn_from: ValueFrom | None = None
    """A DSN that may create and migrate tables, for the operator; without it, the DSN above must be allowed to."""
    tls: Tls | None = None
    """TLS settings. With them TLS is always used, and the server verified; without, the DSN's `sslmode` decides."""


class RegionalPostgres(PostgresAccess):
    """What differs in one region."""

    region: RegionName
    """The region this entry is for; one of `spec.regions`."""


class Postgres(PostgresAccess):
    """A Postgres that somebody else runs. It is the state of one region, wherever it is reached from."""

    schema_name: SqlName = Field(default="agentmemory", json_schema_extra=immutable("the tables are in this schema"))
    """The SQL schema that holds our tables. Immutable."""
    per_region: tuple[RegionalPostgres, ...] = PER_REGION
    """What differs in a region, keyed by region; what an entry does not name is as above."""


class StateSchema(Model):
    """The form of the state object."""

    version: SchemaVersion
    """What `metadata.v` of a state of this form says."""
    definition: dict[str, Any] = Field(json_schema_extra=FREE_FORM)
    """A JSON Schema (2020-12) of all but `metadata`. A field under `properties` may be marked `pinned: true` (always in the
    prompt), `relevant: true` (when it matters, as any field that says nothing), `archived: true` or `neverInPrompt: true`
    (kept, never in the prompt), and `pii: true` (masked where a session is shown)."""


class MigrationTest(Model):
    """An example that is checked whenever the resource is read."""

    before: dict[str, Any] = Field(json_schema_extra=FREE_FORM)
    """A state of the old version."""
    after: dict[str, Any] = Field(json_schema_extra=FREE_FORM)
    """What the patch must make of it."""


class PatchOperation(Model):
    """One operation of a JSON Patch (RFC 6902)."""

    op: Annotated[
        str, Text("^(add|remove|replace|move|copy|test)$", "add, remove, replace, move, copy or test", longest=8)
    ]
    """`add`, `remove`, `replace`, `move`, `copy` or `test`."""
    path: Pointer
    """Where in the state."""
    from_: Pointer | None = Field(default=None, alias="from")
    """For `move` and `copy`: where the value comes from."""
    value: Any = Field(default=None, json_schema_extra=FREE_FORM)
    """For `add`, `replace` and `test`: the value."""


class Migration(Model):
    """How a state of one version becomes one of the next, when it is read."""

    from_: SchemaVersion = Field(alias="from")
    """The version it applies to."""
    to: SchemaVersion
    """The version it makes."""
    patch: Annotated[tuple[PatchOperation, ...], Field(max_length=256)]
    """A JSON Patch, applied in order."""
    tests: Annotated[tuple[MigrationTest, ...], Field(max_length=64)] = ()
    """Examples of what the patch does."""


class MergeRule(Model):
    """How one place of the state is merged."""

    pointer: Pointer
    """The place, as a JSON pointer; what lies in it is merged alike."""
    strategy: MergeStrategy
    """`KeepBoth`: the later write stands, and a conflict keeps both until somebody settles it. `Latest`: the later write
    stands. `Union`, for lists: what either added is there, what either took out is not."""


_OVERLAP = "p == q || q.startsWith(p + '/') || p.startsWith(q + '/')"


class State(Model):
    """The state tier: what is true. Without a store it is embedded."""

    choices = (
        Choice(("dynamodb", "cosmosdb", "postgres", "embedded"), "there is one state tier", required=False),
        Choice(("scope", "scopes"), "scope is short for a list of one", required=False),
    )
    cel = (
        (
            "!has(self.scopes) || self.scopes.all(s, self.scopes.exists_one(t, t.scope == s.scope))",
            "scopes names a scope twice: make one entry of the two",
        ),
        (
            "!has(self.scopes) || self.scopes.all(s, s.scope != 'Session' || self.scopes[0] == s)",
            "scopes is in order of precedence, narrowest first: put Session first",
        ),
        (
            "!has(self.scopes) || size(self.scopes) == 0 || !has(self.scopes[0].pointers) || "
            "size(self.scopes[0].pointers) == 0",
            "the first of scopes is home to all that the others are not: leave its pointers out",
        ),
        (
            "!has(self.scopes) || self.scopes.all(s, self.scopes[0] == s || has(s.pointers) && size(s.pointers) > 0)",
            "scopes behind the first need pointers: name what is at home there",
        ),
        (
            "!has(self.scopes) || self.scopes.all(s, !has(s.pointers) || s.pointers.all(p, self.scopes.all(t, "
            f"t.scope == s.scope || !has(t.pointers) || !t.pointers.exists(q, {_OVERLAP}))))",
            "a pointer is at home in one scope: the same one, or one inside another's, is named in two of scopes",
        ),
    )

    dynamodb: DynamoDb | None = None
    """A DynamoDB table, global when there are several regions."""
    cosmosdb: CosmosDb | None = None
    """An Azure CosmosDB container."""
    postgres: Postgres | None = None
    """A Postgres that somebody else runs."""
    embedded: Embedded | None = None
    """A Postgres of ours; also what an omitted tier means."""
    scope: Scope | None = None
    """Whom the whole state belongs to: each session, user or project has its own. Short for `scopes` with one entry;
    without either, `Session`."""
    scopes: Annotated[tuple[ScopeEntry, ...], Field(min_length=1, max_length=3)] | None = None
    """Several scopes at once, in order of precedence, the narrowest first. All are read as one state."""
    grants: Annotated[tuple[Grant, ...], Field(max_length=32)] = ()
    """Who besides may see or change what belongs to a user or project. No grant, no access."""
    schema_: StateSchema | None = Field(default=None, alias="schema")
    """The form of the state object; without it, that of the reference, free below `extracted_context`."""
    migrations: Annotated[tuple[Migration, ...], Field(max_length=64)] = ()
    """How states of older schema versions are read."""
    on_unavailable: StateUnavailable = StateUnavailable.REFUSE
    """With the state tier gone: `Refuse` answers 503 and forwards nothing that could not be saved; `PassThrough`
    forwards without memory and says so in the receipt and a metric."""
    merge: Annotated[tuple[MergeRule, ...], Field(max_length=64)] = ()
    """Where several regions write at once: what becomes of writes that meet. The longest pointer that covers a place
    holds for it; without one, `KeepBoth`."""
    stale_reads: StaleReads = StaleReads.REFUSE
    """When the tier is known to be behind what a session has already seen: `Refuse` answers 503; `Serve` goes on with
    the older state and says how old in a header."""
    ttl: Annotated[Duration, Between("1h", "36500d")] | None = None
    """How long a session is kept after its last write; without it, for ever."""
    timeout: Annotated[Duration, Between("50ms", "60s")] = Duration.parse("3s")
    """The longest one call to the state tier may take."""

    @property
    def in_order(self) -> tuple[ScopeEntry, ...]:
        """The scopes in order of precedence, the short form written out."""
        return self.scopes or (ScopeEntry(scope=self.scope or Scope.SESSION),)
