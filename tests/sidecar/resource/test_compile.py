from pathlib import Path

import pytest
from pydantic import SecretStr

from agentmemory_sidecar.resource import (
    Installation,
    LocalValues,
    ResourceError,
    SidecarConfig,
    compile_resource,
    load,
)
from agentmemory_sidecar.resource.archive import LockMode
from agentmemory_sidecar.resource.config import RuleConfig
from agentmemory_sidecar.resource.prompt import Op, When
from agentmemory_sidecar.resource.store_config import (
    CosmosDbState,
    DynamoDbState,
    EmbeddedStore,
    PostgresStore,
    RedisHot,
    S3Archive,
    TlsConfig,
)
from tests.sidecar.resource.resources import resource

EXAMPLES = Path(__file__).parents[3] / "examples"
DATA = Path("/data")


def compiled(
    spec: str, region: str = "local", installation: Installation | None = None, **environ: str
) -> SidecarConfig:
    values = LocalValues(Path(), None, environ)
    return compile_resource(resource(spec), region, values=values, data_dir=DATA, installation=installation)


def test_a_laptop_needs_nothing() -> None:
    config = compiled("{}")
    assert config.hot == config.state == config.archive == EmbeddedStore()
    assert config.embedded
    assert (config.name, config.namespace, config.tenant, config.region) == ("test", "agents", "agents", "local")
    assert (config.data_dir, config.keys_dir) == (DATA, DATA / "keys")
    assert (config.upstream.url, config.upstream.tls) == ("https://api.anthropic.com", None)
    assert (config.lock.ttl_s, config.lock.renew_s) == (60, 20)
    assert (config.window.turns, config.window.hot_ttl_s, config.hydration.turns) == (5, 900, 5)
    assert (config.deadlines.hot_s, config.deadlines.state_s, config.deadlines.archive_s) == (0.5, 3, 10)
    assert (config.state_ttl_s, config.schema_version, config.blob_threshold_bytes) == (None, "2.1", 16384)


def test_the_quickstart_is_what_a_laptop_needs() -> None:
    config = compile_resource(load(EXAMPLES / "quickstart.yaml"), "local", values=LocalValues(Path()), data_dir=DATA)
    assert config.embedded
    assert config.identity.session_headers == ("x-agent-session",)


def test_values_come_in_plain_units() -> None:
    config = compiled("""
tenant: acme
upstream: {url: "http://127.0.0.1:8080/", connectTimeout: 1s, idleTimeout: 2m}
ephemeral: {turns: 7, ttl: 1h, timeout: 250ms, onUnavailable: Refuse}
state: {ttl: 90d, onUnavailable: PassThrough}
archive: {blobs: {threshold: 32Ki}, keys: {local: {directory: /safe}}}
session:
  identity:
    headers: [X-A, X-B]
    userHeaders: [X-User]
    projectHeaders: [X-Project]
    defaults: {user: ann, project: apollo}
  lock: {ttl: 30s, onConflict: Wait, maxWait: 5s, scope: Turn}
hydration: {onFresh: None, turns: 2, budgetTokens: 10}
filter: {strategy: None, budgetTokens: 9, pinned: [/a], neverInPrompt: [/b]}
injection: {role: System, conversationTokens: 99}
extraction: {builtin: false, rules: [{tools: [a, b], when: Result, from: /x, to: /y, op: Append, template: "{/z}"}]}
onDisconnect: Complete
""")
    assert (config.tenant, config.upstream.url) == ("acme", "http://127.0.0.1:8080")
    assert (config.upstream.connect_timeout_s, config.upstream.idle_timeout_s) == (1, 120)
    assert (config.window.turns, config.window.hot_ttl_s, config.deadlines.hot_s) == (7, 3600, 0.25)
    assert (config.on_hot_unavailable, config.on_state_unavailable) == ("Refuse", "PassThrough")
    assert (config.state_ttl_s, config.blob_threshold_bytes, config.keys_dir) == (7_776_000, 32768, Path("/safe"))
    assert config.identity.model_dump() == {
        "session_headers": ("x-a", "x-b"),
        "user_headers": ("x-user",),
        "project_headers": ("x-project",),
        "group_headers": (),
        "default_user": "ann",
        "default_project": "apollo",
    }
    assert config.lock.model_dump() == {
        "ttl_s": 30,
        "renew_s": 10,
        "on_conflict": "Wait",
        "max_wait_s": 5,
        "scope": "Turn",
    }
    assert config.hydration.model_dump() == {"on_fresh": "None", "turns": 2, "budget_tokens": 10}
    assert (config.filter.strategy, config.filter.budget_tokens) == ("None", 9)
    assert (config.filter.pinned, config.filter.never_in_prompt) == (("/a",), ("/b",))
    assert config.injection.model_dump() == {"role": "System", "conversation_tokens": 99}
    assert not config.extraction.builtin
    assert config.extraction.rules == (
        RuleConfig(tools=("a", "b"), when=When.RESULT, source="/x", target="/y", op=Op.APPEND, template="{/z}"),
    )
    assert config.on_disconnect == "Complete"


def test_the_tier_s_own_window_wins() -> None:
    spec = "ephemeral: {turns: 7, ttl: 1h, redis: {turns: 3, ttl: 1m, external: {urls: ['redis://h']}}}"
    assert compiled(spec).window.model_dump() == {"turns": 3, "hot_ttl_s": 60}


def test_each_region_has_its_own_stores(tmp_path: Path) -> None:
    (tmp_path / "support-redis").mkdir()
    (tmp_path / "support-redis" / "password").write_text("hunter2\n")
    aws = load(EXAMPLES / "aws.yaml")
    east, west = (
        compile_resource(aws, region, values=LocalValues(Path(), tmp_path), data_dir=DATA)
        for region in aws.spec.regions
    )
    assert east.hot == RedisHot(
        urls=("rediss://support.use1.cache.example:6379",),
        cluster=True,
        username="memory",
        password=SecretStr("hunter2"),
    )
    assert isinstance(west.state, DynamoDbState)
    assert (west.state.table, west.state.strong, west.state.aws.region) == ("support-state", False, "us-west-2")
    assert west.state.aws.role_arn == "arn:aws:iam::123456789012:role/memory-usw2"
    assert isinstance(east.archive, S3Archive)
    assert isinstance(west.archive, S3Archive)
    assert (east.archive.bucket, west.archive.bucket) == ("acme-support-us-east-1", "acme-support-archive-west")
    assert not east.embedded


def test_an_account_whose_every_region_writes_seen_from_each() -> None:
    spec = """
regions: [east, west]
state:
  cosmosdb:
    endpoint: https://acme.documents.azure.com:443/
    keyFrom: {env: KEY}
    database: memory
    container: sessions
    multiRegionWrites: true
    perRegion:
    - {region: east, preferredLocations: [East US, West US]}
    - {region: west, endpoint: "https://acme-westus.documents.azure.com:443/", preferredLocations: [West US]}
"""
    east, west = (compiled(spec, region, KEY="a2V5") for region in ("east", "west"))
    assert isinstance(east.state, CosmosDbState)
    assert isinstance(west.state, CosmosDbState)
    assert east.many_heads
    assert east.state.access.locations == ("East US", "West US")
    assert (east.state.access.key, west.state.access.endpoint) == (
        SecretStr("a2V5"),
        "https://acme-westus.documents.azure.com:443/",
    )
    assert [(each.region, each.access) for each in east.state.elsewhere] == [("west", west.state.access)]
    assert [(each.region, each.access) for each in west.state.elsewhere] == [("east", east.state.access)]
    one = compiled(spec.replace("multiRegionWrites: true", "multiRegionWrites: false"), "west", KEY="a2V5")
    assert isinstance(one.state, CosmosDbState)
    assert (one.many_heads, one.state.elsewhere) == (False, ())


def test_references_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("PEM\n")
    spec = f"""
upstream: {{tls: {{serverName: claude.example}}}}
ephemeral:
  redis:
    external: {{urls: ['rediss://h'], passwordFrom: {{env: PW}}, tls: {{caFrom: {{file: ca.pem}}}}}}
state: {{postgres: {{dsnFrom: {{env: DSN}}, schemaName: agentmemory}}}}
archive:
  s3:
    bucketPrefix: abc
    endpoint: http://127.0.0.1:4566
    awsRegion: us-east-1
    pathStyle: true
    objectLock: {{mode: Compliance, days: 7}}
    kmsKeyArn: arn:aws:kms:key
    credentials: {{accessKeyIdFrom: {{env: ID}}, secretAccessKeyFrom: {{file: {tmp_path / "ca.pem"}}}}}
"""
    values = LocalValues(tmp_path, None, {"PW": "hunter2", "DSN": "postgresql://h/d", "ID": "AK"})
    config = compile_resource(resource(spec), "local", values=values, data_dir=DATA)
    assert (config.upstream.tls, config.upstream.server_name) == (TlsConfig(), "claude.example")
    assert config.hot == RedisHot(urls=("rediss://h",), password=SecretStr("hunter2"), tls=TlsConfig(ca_pem="PEM"))
    assert config.state == PostgresStore(dsn=SecretStr("postgresql://h/d"))
    assert isinstance(config.archive, S3Archive)
    assert (config.archive.bucket, config.archive.path_style) == ("abc-local", True)
    assert (config.archive.lock_mode, config.archive.lock_days) == (LockMode.COMPLIANCE, 7)
    assert config.archive.kms_key_arn == "arn:aws:kms:key"
    assert (config.archive.aws.region, config.archive.aws.endpoint) == ("us-east-1", "http://127.0.0.1:4566")
    assert (config.archive.aws.access_key_id, config.archive.aws.secret_access_key) == ("AK", SecretStr("PEM"))


def test_all_values_that_cannot_be_had_are_told_with_their_fields() -> None:
    with pytest.raises(ResourceError) as caught:
        compiled(
            "state: {postgres: {dsnFrom: {env: DSN}}}\narchive: {postgres: {dsnFrom: {env: OTHER}}}", OTHER="hunter2"
        )
    first, second = caught.value.problems
    assert first == (
        "test.yaml:5: spec.state.postgres.dsnFrom: the environment variable DSN is not set: export it first"
    )
    assert second.startswith("test.yaml:6: spec.archive.postgres.dsnFrom: what it names must be a DSN that begins with")
    assert "hunter2" not in str(caught.value)


def test_an_unknown_region_names_those_there_are() -> None:
    with pytest.raises(
        ResourceError, match=r"test.yaml:5: spec.regions: this sidecar's region mars is not among them \(a"
    ):
        compiled("regions: [a, b]", "mars")


def test_what_an_installation_runs_takes_the_place_of_what_a_laptop_starts() -> None:
    redis = RedisHot(urls=("rediss://redis.agents.svc:6379",), cluster=True)
    postgres = PostgresStore(dsn=SecretStr("postgresql://embedded/d"))
    known = Installation(
        managed_redis=redis,
        embedded_hot=redis,
        embedded_postgres=postgres,
        dynamodb_endpoint="http://dynamodb",
        s3_endpoint="http://s3",
        role_arn="arn:aws:iam::1:role/x",
    )
    embedded = compiled("{}", installation=known)
    assert (embedded.hot, embedded.state, embedded.archive) == (redis, postgres, postgres)
    assert not embedded.embedded
    managed = compiled(
        "ephemeral: {redis: {managed: {}}}\nstate: {dynamodb: {table: abc}}\narchive: {s3: {bucketPrefix: abc}}",
        installation=known,
    )
    assert managed.hot == redis
    assert isinstance(managed.state, DynamoDbState)
    assert (managed.state.aws.endpoint, managed.state.aws.role_arn) == ("http://dynamodb", "arn:aws:iam::1:role/x")
    assert isinstance(managed.archive, S3Archive)
    assert managed.archive.aws.endpoint == "http://s3"


def test_sub_agents_have_keys_of_their_own() -> None:
    known = compiled(
        "extraction: {subAgent: {apiKeyFrom: {env: KEY}, idle: 5m, writes: [/notes], limits: {tokensPerDay: 60000}}}",
        KEY="hunter3",
    )
    learner = known.extraction.sub_agent
    assert learner is not None
    assert learner.api_key.get_secret_value() == "hunter3"
    assert (learner.every_turns, learner.idle_s, learner.deadline_s, learner.max_tokens) == (4, 300, 30, 4096)
    assert (learner.writes, learner.tool_results) == (("/notes",), False)
    assert (learner.session_tokens_per_day, learner.tokens_per_day) == (200_000, 60_000)
    assert SidecarConfig.loads(known.dumps()) == known
    # A filter's sub-agent may stand by while the strategy is Lexical.
    agent = compiled("filter: {subAgent: {apiKeyFrom: {env: KEY}, deadline: 1s}}", KEY="hunter2").filter.sub_agent
    assert agent is not None
    assert (agent.api_key.get_secret_value(), agent.deadline_s, agent.url) == (
        "hunter2",
        1,
        "https://api.anthropic.com",
    )
