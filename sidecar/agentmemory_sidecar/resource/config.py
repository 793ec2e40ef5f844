"""What one sidecar in one region needs, in plain units: seconds as floats, sizes in bytes, texts as texts.

Compiled from an AgentMemory by :func:`agentmemory_sidecar.resource.compile.compile_resource`; the operator ships it as
JSON; `formats.py` has the rules by which it grows. Immutable. Secrets do not show in `repr` or in pydantic's dumps; only
:meth:`SidecarConfig.dumps` writes them.
"""

import base64
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from agentmemory_sidecar.resource.agentmemory import OnDisconnect
from agentmemory_sidecar.resource.ephemeral import HotUnavailable
from agentmemory_sidecar.resource.errors import ResourceError
from agentmemory_sidecar.resource.formats import FORMAT, Config, Secret, Writing
from agentmemory_sidecar.resource.memorytool import Serve
from agentmemory_sidecar.resource.prompt import OnFresh, Op, Role, Strategy, When
from agentmemory_sidecar.resource.scope_config import GrantConfig, ScopeConfig
from agentmemory_sidecar.resource.session import LockScope, OnConflict
from agentmemory_sidecar.resource.state import MergeStrategy, StaleReads, StateUnavailable
from agentmemory_sidecar.resource.store_config import (
    CosmosDbState,
    DynamoDbState,
    EmbeddedStore,
    PostgresStore,
    RedisHot,
    S3Archive,
    TlsConfig,
)
from agentmemory_sidecar.resource.yamltext import dotted

MASTER_BYTES = 32


class UpstreamConfig(Config):
    """Claude, or the gateway that stands for it."""

    url: str
    """The base URL, without `/v1` and without a slash at its end."""
    connect_timeout_s: float
    """The longest a connection may take to open (seconds)."""
    idle_timeout_s: float
    """The longest the upstream may be silent within an answer (seconds)."""
    tls: TlsConfig | None = None
    """TLS settings; None for the defaults."""
    server_name: str = ""
    """The name the server's certificate must carry; empty for the host's."""


class WindowConfig(Config):
    """The latest turns of a conversation."""

    turns: int
    """How many finished turns are kept (turns)."""
    hot_ttl_s: float
    """How long the hot copy lives after its last turn (seconds)."""


class IdentityConfig(Config):
    """How a request says whose it is."""

    session_headers: tuple[str, ...] = ()
    """Headers with the session's id, lower case, in order; before the sources that are always looked at."""
    user_headers: tuple[str, ...] = ()
    """Headers with the user's id, lower case, in order."""
    project_headers: tuple[str, ...] = ()
    """Headers with the project's id, lower case, in order."""
    group_headers: tuple[str, ...] = ()
    """Headers with names of groups, lower case."""
    default_user: str = ""
    """The user when nothing says so; empty for none."""
    default_project: str = ""
    """The project when nothing says so; empty for none."""


class LockConfig(Config):
    """The conversation's lock."""

    ttl_s: float
    """How long a lock outlives a killed sidecar (seconds)."""
    renew_s: float
    """How often a living sidecar renews it: a third of `ttl_s` (seconds)."""
    on_conflict: OnConflict
    """Whether a second turn is refused or waits."""
    max_wait_s: float
    """The longest wait (seconds)."""
    scope: LockScope
    """Whether it is held for a step or a turn."""


class HydrationConfig(Config):
    """What a fresh conversation on a known session gets."""

    on_fresh: OnFresh
    """Whether the last turns are put before it."""
    turns: int
    """How many (turns)."""
    budget_tokens: int
    """The most they may take (tokens)."""


class SubAgentConfig(Config):
    """A small model that works for the sidecar."""

    model: str
    """The model's name."""
    api_key: Secret
    """The sub-agent's own key."""
    url: str
    """The API's base URL."""
    deadline_s: float
    """The longest one answer may take (seconds)."""
    max_tokens: int
    """The longest answer (tokens)."""


class EmbeddingsConfig(Config):
    """An embedding model on the sidecar's machine."""

    model: str
    """The folder that holds it."""
    deadline_s: float
    """The longest that the meaning of one query may take (seconds)."""


class FilterConfig(Config):
    """What of the state goes into a prompt."""

    strategy: Strategy
    """How it is chosen."""
    budget_tokens: int
    """The most one injection may take (tokens)."""
    pinned: tuple[str, ...]
    """JSON pointers that always go in first."""
    never_in_prompt: tuple[str, ...]
    """JSON pointers that never go in."""
    sub_agent: SubAgentConfig | None = None
    """The model that chooses."""
    embeddings: EmbeddingsConfig | None = None
    """The model that tells what facts mean."""


class InjectionConfig(Config):
    """How it goes in."""

    role: Role
    """The role of the message that carries it."""
    conversation_tokens: int
    """The most that all injections of one conversation may take (tokens)."""


class RuleConfig(Config):
    """One way from a tool's use into the state."""

    tools: tuple[str, ...]
    """Names of tools, exact."""
    when: When
    """Whether the call's input or its result is read."""
    source: str
    """The JSON pointer into it; empty for all of it."""
    target: str
    """The JSON pointer in the state."""
    op: Op
    """What is done there."""
    template: str = ""
    """What each element of a list becomes; empty for itself."""


class MergeRuleConfig(Config):
    """How one place of the state is merged."""

    pointer: str
    """The place; what lies in it is merged alike."""
    strategy: MergeStrategy
    """What becomes of writes that meet there."""


class LearnerConfig(SubAgentConfig):
    """A small model that turns finished turns into changes of the state."""

    every_turns: int = 4
    """How many finished turns are read at once (turns)."""
    idle_s: float = 60.0
    """Fewer are read after so long without another one (seconds)."""
    writes: tuple[str, ...] = ("/extracted_context",)
    """JSON pointers of what it may write."""
    tool_results: bool = False
    """Whether it reads what tools answered."""
    session_tokens_per_day: int = 200_000
    """The most that one conversation may take in a day (tokens)."""
    tokens_per_day: int = 5_000_000
    """The most that all of them may take in a day (tokens)."""


class ExtractionConfig(Config):
    """What of a conversation becomes state."""

    builtin: bool
    """Whether the built-in rules for to-do tools are on."""
    rules: tuple[RuleConfig, ...]
    """The resource's own rules, after the built-in ones."""
    sub_agent: LearnerConfig | None = None
    """The model that reads finished turns."""


class MemoryToolConfig(Config):
    """Claude's memory tool, run by the sidecar."""

    serve: Serve = Serve.AUTO
    """Who runs it."""
    max_rounds: int = 10
    """How often Claude is asked to go on within one reply."""
    max_bytes: int = 262_144
    """The most that calls and results within one reply may have (bytes)."""
    max_file_bytes: int = 65_536
    """The longest file (bytes)."""


class Deadlines(Config):
    """The longest one call to a store may take."""

    hot_s: float
    """The hot tier (seconds)."""
    state_s: float
    """The state tier (seconds)."""
    archive_s: float
    """The archive and the blob store (seconds)."""


class MigrationConfig(Config):
    """How a state of one version becomes one of a later one."""

    from_version: str
    """The version it applies to."""
    to_version: str
    """The version it makes."""
    patch: str
    """A JSON Patch, as JSON."""


class FormConfig(Config):
    """What a state looks like; its version is `schema_version`."""

    definition: str = ""
    """A JSON Schema, as JSON; empty for none."""
    migrations: tuple[MigrationConfig, ...] = ()
    """How states of older versions are read."""
    pii: tuple[str, ...] = ()
    """JSON pointers of what tells of a person."""


class SidecarConfig(Config):
    """All that a sidecar needs to know: one resource, seen from one region."""

    format: Literal[1] = FORMAT
    """The version of this form."""
    name: str
    """The AgentMemory's name."""
    namespace: str
    """Its namespace."""
    generation: int = 0
    """The generation of the resource this was compiled from; 0 on a laptop."""
    tenant: str
    """The first part of every key in every store."""
    shadow: bool = False
    """Whether requests and replies pass unchanged, and steps are only computed beside them."""
    region: str
    """The region this sidecar is in."""
    regions: tuple[str, ...]
    """All regions of the resource, in its order."""
    data_dir: Path
    """The folder for what is kept on this machine (embedded stores, keys, the admin token)."""
    keys_dir: Path
    """The folder of the subjects' sealing keys, where there is no `key_master`."""
    key_master: Secret = SecretStr("")
    """What wraps the subjects' sealing keys in the state tier: 32 random bytes as base64; empty keeps the keys in
    `keys_dir`, on this machine alone."""
    upstream: UpstreamConfig
    """Claude, or the gateway that stands for it."""
    hot: Annotated[RedisHot | EmbeddedStore, Field(discriminator="kind")]
    """The hot tier."""
    state: Annotated[PostgresStore | DynamoDbState | CosmosDbState | EmbeddedStore, Field(discriminator="kind")]
    """The state tier."""
    archive: Annotated[PostgresStore | S3Archive | EmbeddedStore, Field(discriminator="kind")]
    """The archive, and the blob store."""
    deadlines: Deadlines
    """The longest one call to each store may take."""
    window: WindowConfig
    """The latest turns of a conversation."""
    state_ttl_s: float | None
    """How long a session is kept after its last write (seconds); None for ever."""
    scopes: tuple[ScopeConfig, ...]
    """Whom the parts of a state belong to, in order of precedence."""
    grants: tuple[GrantConfig, ...] = ()
    """Who besides may see or change a part."""
    merge: tuple[MergeRuleConfig, ...] = ()
    """What becomes of values that several regions wrote at one place at once."""
    schema_version: str
    """What `metadata.v` of a new state object says."""
    form: FormConfig | None = None
    """What a state object looks like, and how older ones are read; None where nothing is declared."""
    blob_threshold_bytes: int
    """Values larger than this go to the blob store (bytes)."""
    identity: IdentityConfig
    """How a request says whose it is."""
    lock: LockConfig
    """The conversation's lock."""
    hydration: HydrationConfig
    """What a fresh conversation on a known session gets."""
    filter: FilterConfig
    """What of the state goes into a prompt."""
    injection: InjectionConfig
    """How it goes in."""
    extraction: ExtractionConfig
    """What of a conversation becomes state."""
    memory_tool: MemoryToolConfig = MemoryToolConfig()
    """Claude's memory tool, run by the sidecar."""
    on_disconnect: OnDisconnect
    """What happens to a step whose client goes away."""
    on_hot_unavailable: HotUnavailable
    """What a turn does without the hot tier."""
    on_state_unavailable: StateUnavailable
    """What a turn does without the state tier."""
    stale_reads: StaleReads
    """What a turn does when the state tier is known to be behind."""

    @property
    def many_heads(self) -> bool:
        """Whether each region writes an item of its own, and a reader takes them together."""
        # Not isinstance: pydantic's is a call of Python, and a step asks five times.
        state = self.state
        if type(state) is DynamoDbState:
            return not state.strong
        return type(state) is CosmosDbState and state.multi_region_writes

    @property
    def embedded(self) -> bool:
        """Whether any store is to be started by this process."""
        return any(isinstance(store, EmbeddedStore) for store in (self.hot, self.state, self.archive))

    def dumps(self) -> str:
        """The JSON form **with its secrets**, for a mounted Secret; read again by :meth:`loads`."""
        return self.model_dump_json(context=Writing())

    @classmethod
    def loads(cls, text: str | bytes) -> Self:
        """Read :meth:`dumps`. Raises ResourceError, without quoting any value."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ResourceError(
                [
                    f"sidecar configuration: {dotted(detail['loc'])}: {detail['msg']}"
                    for detail in error.errors(include_url=False, include_input=False)
                ]
            ) from None

    @property
    def master(self) -> bytes:
        """`key_master` as bytes; empty for none."""
        return base64.b64decode(self.key_master.get_secret_value())

    @field_validator("key_master")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        try:
            size = len(base64.b64decode(text, validate=True))
        except ValueError:
            size = -1
        if text and size != MASTER_BYTES:
            raise ValueError(f"must be {MASTER_BYTES} bytes as base64")
        return value

    @model_validator(mode="after")
    def _is_in_a_region_of_the_resource(self) -> Self:
        if self.region not in self.regions:
            raise ValueError("region is not one of regions")
        return self
