"""An AgentMemory, seen from one region, as a SidecarConfig."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from agentmemory_sidecar.resource import cloudnativepg, state_schema
from agentmemory_sidecar.resource import config as c
from agentmemory_sidecar.resource import store_config as stores
from agentmemory_sidecar.resource.agentmemory import AgentMemory, Mode, Spec, Upstream
from agentmemory_sidecar.resource.base import at
from agentmemory_sidecar.resource.common import AwsAccess, Tls, ValueFrom
from agentmemory_sidecar.resource.ephemeral import ExternalRedis
from agentmemory_sidecar.resource.errors import NotSupportedYet, ResourceError
from agentmemory_sidecar.resource.prompt import ExtractionSubAgent, SubAgent
from agentmemory_sidecar.resource.references import Resolver, Unresolved
from agentmemory_sidecar.resource.scope_config import grants_of, scopes_of
from agentmemory_sidecar.resource.state import (
    ClusterRef,
    CosmosDb,
    DynamoDb,
    Postgres,
    RegionalCosmos,
    State,
)
from agentmemory_sidecar.resource.state_checks import operations
from agentmemory_sidecar.resource.unsupported import unsupported
from agentmemory_sidecar.resource.values import dsn_problem
from agentmemory_sidecar.resource.yamltext import Path as FieldPath

DYNAMODB: FieldPath = ("spec", "state", "dynamodb")
COSMOSDB: FieldPath = ("spec", "state", "cosmosdb")


@dataclass(frozen=True, slots=True)
class Installation:
    """What the cluster's installation runs or knows, and a resource therefore does not name. Empty on a laptop."""

    managed_redis: stores.RedisHot | None = None
    """The managed Redis of this region."""
    embedded_hot: stores.RedisHot | None = None
    """Where the embedded Valkey listens, when it is not this process that starts it."""
    embedded_postgres: stores.PostgresStore | None = None
    """Where the embedded Postgres listens, when it is not this process that starts it."""
    dynamodb_endpoint: str = ""
    """DynamoDB's URL; empty for AWS's own."""
    s3_endpoint: str = ""
    """S3's URL; empty for AWS's own."""
    role_arn: str = ""
    """The role the sidecar assumes where the resource names none."""
    key_master: SecretStr = field(default_factory=lambda: SecretStr(""))
    """What wraps the subjects' sealing keys (32 bytes as base64); empty where they stay on one machine."""


def compile_resource(
    resource: AgentMemory,
    region: str,
    *,
    values: Resolver,
    data_dir: Path,
    installation: Installation | None = None,
) -> c.SidecarConfig:
    """What a sidecar in ``region`` needs.

    Raises NotSupportedYet for what is declared but not built, and ResourceError for an unknown region or a value that
    cannot be had; both with every problem there is.
    """
    known = installation or Installation()
    missing = unsupported(resource, managed_redis=known.managed_redis is not None)
    if missing:
        raise NotSupportedYet([resource.describe(problem.path, problem.message) for problem in missing])
    if region not in resource.spec.regions:
        raise ResourceError(
            [
                resource.describe(
                    ("spec", "regions"),
                    f"this sidecar's region {region} is not among them ({', '.join(resource.spec.regions)}): "
                    "choose one of these",
                )
            ]
        )
    compiler = _Compiler(resource, region, values, data_dir, known, [])
    config = compiler.config()
    if compiler.problems:
        raise ResourceError(compiler.problems)
    return config


def version_of(state: State) -> str:
    """What `metadata.v` of a new state says."""
    return state.schema_.version if state.schema_ else state_schema.REFERENCE


def form_of(state: State) -> c.FormConfig | None:
    """What the resource declares of states; None where it declares nothing."""
    if state.schema_ is None and not state.migrations:
        return None
    return c.FormConfig(
        definition=json.dumps(state.schema_.definition) if state.schema_ else "",
        migrations=tuple(
            c.MigrationConfig(from_version=each.from_, to_version=each.to, patch=json.dumps(operations(each)))
            for each in state.migrations
        ),
        pii=tuple(marks_of(state).pii),
    )


def marks_of(state: State) -> state_schema.Marks:
    """What the schema marks."""
    return state_schema.marks(state.schema_.definition) if state.schema_ else state_schema.Marks()


@dataclass(frozen=True, slots=True)
class _Compiler:
    resource: AgentMemory
    region: str
    values: Resolver
    data_dir: Path
    known: Installation
    problems: list[str]

    @property
    def spec(self) -> Spec:
        return self.resource.spec

    def config(self) -> c.SidecarConfig:
        spec = self.spec
        redis, lock, identity = spec.ephemeral.redis, spec.session.lock, spec.session.identity
        turns = (redis.turns if redis else None) or spec.ephemeral.turns
        hot_ttl = (redis.ttl if redis else None) or spec.ephemeral.ttl
        keys = spec.archive.keys.local.directory if spec.archive.keys.local else None
        marks = marks_of(spec.state)
        never = (*spec.filter.never_in_prompt, *marks.never_in_prompt, *marks.archived)
        return c.SidecarConfig(
            name=self.resource.metadata.name,
            namespace=self.resource.metadata.namespace,
            generation=self.resource.metadata.generation,
            tenant=self.resource.partition,
            shadow=spec.mode is Mode.SHADOW,
            region=self.region,
            regions=spec.regions,
            data_dir=self.data_dir,
            keys_dir=self.data_dir / (keys or "keys"),
            key_master=self.known.key_master,
            upstream=self.upstream(spec.upstream),
            hot=self.hot(),
            state=self.state(),
            archive=self.archive(),
            deadlines=c.Deadlines(
                hot_s=spec.ephemeral.timeout.seconds,
                state_s=spec.state.timeout.seconds,
                archive_s=spec.archive.timeout.seconds,
            ),
            window=c.WindowConfig(turns=turns, hot_ttl_s=hot_ttl.seconds),
            state_ttl_s=spec.state.ttl.seconds if spec.state.ttl else None,
            scopes=scopes_of(spec.state),
            grants=grants_of(spec.state),
            merge=tuple(c.MergeRuleConfig(pointer=rule.pointer, strategy=rule.strategy) for rule in spec.state.merge),
            schema_version=version_of(spec.state),
            form=form_of(spec.state),
            blob_threshold_bytes=spec.archive.blobs.threshold.bytes,
            identity=c.IdentityConfig(
                session_headers=tuple(header.lower() for header in identity.headers),
                user_headers=tuple(header.lower() for header in identity.user_headers),
                project_headers=tuple(header.lower() for header in identity.project_headers),
                group_headers=tuple(header.lower() for header in identity.group_headers),
                default_user=identity.defaults.user or "",
                default_project=identity.defaults.project or "",
            ),
            lock=c.LockConfig(
                ttl_s=lock.ttl.seconds,
                renew_s=lock.ttl.seconds / 3,
                on_conflict=lock.on_conflict,
                max_wait_s=lock.max_wait.seconds,
                scope=lock.scope,
            ),
            hydration=c.HydrationConfig(
                on_fresh=spec.hydration.on_fresh,
                turns=spec.hydration.turns or turns,
                budget_tokens=spec.hydration.budget_tokens,
            ),
            filter=c.FilterConfig(
                strategy=spec.filter.strategy,
                budget_tokens=spec.filter.budget_tokens,
                pinned=tuple(dict.fromkeys((*spec.filter.pinned, *marks.pinned))),
                never_in_prompt=tuple(dict.fromkeys(never)),
                sub_agent=self.sub_agent(spec.filter.sub_agent, ("spec", "filter", "subAgent")),
                embeddings=c.EmbeddingsConfig(model=model.model, deadline_s=model.deadline.seconds)
                if (model := spec.filter.embeddings)
                else None,
            ),
            injection=c.InjectionConfig(
                role=spec.injection.role, conversation_tokens=spec.injection.conversation_tokens
            ),
            extraction=self.extraction(),
            memory_tool=c.MemoryToolConfig(
                serve=spec.memory_tool.serve,
                max_rounds=spec.memory_tool.max_rounds,
                max_bytes=spec.memory_tool.max_bytes.bytes,
                max_file_bytes=spec.memory_tool.max_file_bytes.bytes,
            ),
            on_disconnect=spec.on_disconnect,
            on_hot_unavailable=spec.ephemeral.on_unavailable,
            on_state_unavailable=spec.state.on_unavailable,
            stale_reads=spec.state.stale_reads,
        )

    def upstream(self, upstream: Upstream) -> c.UpstreamConfig:
        return c.UpstreamConfig(
            url=upstream.url.rstrip("/"),
            connect_timeout_s=upstream.connect_timeout.seconds,
            idle_timeout_s=upstream.idle_timeout.seconds,
            tls=self.tls(upstream.tls, ("spec", "upstream", "tls")),
            server_name=(upstream.tls.server_name if upstream.tls else None) or "",
        )

    def hot(self) -> stores.RedisHot | stores.EmbeddedStore:
        redis = self.spec.ephemeral.redis
        if redis is None:
            return self.known.embedded_hot or stores.EmbeddedStore()
        if redis.external is None:
            assert self.known.managed_redis is not None
            return self.known.managed_redis
        access: ExternalRedis = at(redis.external, self.region)
        path = ("spec", "ephemeral", "redis", "external")
        return stores.RedisHot(
            urls=access.urls or (),
            cluster=bool(access.cluster),
            username=access.username or "",
            password=self.secret(access.password, access.password_from, (*path, "passwordFrom")),
            tls=self.tls(access.tls, (*path, "tls")),
        )

    def state(self) -> stores.PostgresStore | stores.DynamoDbState | stores.CosmosDbState | stores.EmbeddedStore:
        state = self.spec.state
        if state.cosmosdb:
            several = state.cosmosdb.multi_region_writes
            return stores.CosmosDbState(
                database=state.cosmosdb.database,
                container=state.cosmosdb.container,
                multi_region_writes=several,
                access=self.cosmos(state.cosmosdb, self.region),
                elsewhere=tuple(
                    stores.RegionCosmos(region=region, access=self.cosmos(state.cosmosdb, region))
                    for region in (self.others() if several else ())
                ),
            )
        if state.postgres:
            return self.postgres(state.postgres, ("spec", "state", "postgres"))
        if state.dynamodb:
            table = at(state.dynamodb, self.region)
            return stores.DynamoDbState(
                table=table.table,
                strong=table.consistency == "Strong",
                aws=self.aws(table, self.known.dynamodb_endpoint, DYNAMODB),
                elsewhere=tuple(self.elsewhere(state.dynamodb)),
            )
        return self.known.embedded_postgres or stores.EmbeddedStore()

    def elsewhere(self, table: DynamoDb) -> Iterator[stores.RegionAws]:
        for region in self.others():
            access = at(table, region)
            aws = self.aws(access, self.known.dynamodb_endpoint, DYNAMODB, region=region)
            yield stores.RegionAws(region=region, aws=aws)

    def others(self) -> tuple[str, ...]:
        """From this region round to the one before it, so that regions do not all turn to the same one."""
        regions = self.spec.regions
        here = regions.index(self.region)
        return (*regions[here + 1 :], *regions[:here])

    def cosmos(self, declared: CosmosDb, region: str) -> stores.CosmosConfig:
        access = at(declared, region)
        entries: tuple[RegionalCosmos, ...] = declared.per_region
        return stores.CosmosConfig(
            endpoint=access.endpoint or "",
            key=self.secret(None, access.key_from, (*COSMOSDB, "keyFrom")),
            locations=next((entry.preferred_locations for entry in entries if entry.region == region), ()),
            tls=self.tls(access.tls, (*COSMOSDB, "tls")),
        )

    def archive(self) -> stores.PostgresStore | stores.S3Archive | stores.EmbeddedStore:
        archive = self.spec.archive
        if archive.postgres:
            return self.postgres(archive.postgres, ("spec", "archive", "postgres"))
        if archive.s3:
            store = at(archive.s3, self.region)
            named = next((entry.bucket for entry in store.per_region if entry.region == self.region), None)
            return stores.S3Archive(
                bucket=named or f"{store.bucket_prefix}-{self.region}",
                key_prefix=store.key_prefix,
                path_style=store.path_style,
                lock_mode=store.object_lock.mode if store.object_lock else None,
                lock_days=store.object_lock.days if store.object_lock else 0,
                kms_key_arn=store.kms_key_arn or "",
                aws=self.aws(store, self.known.s3_endpoint, ("spec", "archive", "s3")),
            )
        return self.known.embedded_postgres or stores.EmbeddedStore()

    def extraction(self) -> c.ExtractionConfig:
        extraction = self.spec.extraction
        return c.ExtractionConfig(
            builtin=extraction.builtin,
            rules=tuple(
                c.RuleConfig(
                    tools=rule.tools,
                    when=rule.when,
                    source=rule.from_,
                    target=rule.to,
                    op=rule.op,
                    template=rule.template or "",
                )
                for rule in extraction.rules
            ),
            sub_agent=self.learner(extraction.sub_agent, ("spec", "extraction", "subAgent")),
        )

    def learner(self, agent: ExtractionSubAgent | None, path: FieldPath) -> c.LearnerConfig | None:
        model = self.sub_agent(agent, path)
        if agent is None or model is None:
            return None
        return c.LearnerConfig(
            **dict(model),
            every_turns=agent.every_turns,
            idle_s=agent.idle.seconds,
            writes=agent.writes,
            tool_results=agent.tool_results,
            session_tokens_per_day=agent.limits.session_tokens_per_day,
            tokens_per_day=agent.limits.tokens_per_day,
        )

    def postgres(self, postgres: Postgres, path: FieldPath) -> stores.PostgresStore:
        access = at(postgres, self.region)
        if access.cluster_ref:
            return self.cluster(access.cluster_ref, access.tls, path)
        dsn = self.secret(access.dsn, access.dsn_from, (*path, "dsnFrom"))
        if dsn.get_secret_value() and (problem := dsn_problem(dsn.get_secret_value())):
            self.problems.append(self.resource.describe((*path, "dsnFrom"), f"what it names {problem}"))
        return stores.PostgresStore(dsn=dsn, tls=self.tls(access.tls, (*path, "tls")))

    def cluster(self, ref: ClusterRef, tls: Tls | None, path: FieldPath) -> stores.PostgresStore:
        """A CloudNativePG Cluster's database. Without ``tls`` of the resource's own, the Cluster's authority signs."""
        try:
            dsn = cloudnativepg.login(ref, self.resource.metadata.namespace, self.values)
            ca_pem = "" if tls else cloudnativepg.authority(ref, self.values)
        except Unresolved as error:
            self.problems.append(self.resource.describe((*path, "clusterRef"), str(error)))
            return stores.PostgresStore(dsn=SecretStr(""))
        trust = self.tls(tls, (*path, "tls")) if tls else stores.TlsConfig(ca_pem=ca_pem)
        return stores.PostgresStore(dsn=SecretStr(dsn), tls=trust)

    def aws(self, access: AwsAccess, endpoint: str, path: FieldPath, *, region: str = "") -> stores.AwsConfig:
        keys, where = access.credentials, (*path, "credentials")
        return stores.AwsConfig(
            region=access.aws_region or region or self.region,
            endpoint=access.endpoint or endpoint,
            role_arn=access.role_arn or self.known.role_arn,
            access_key_id=self.value(keys.access_key_id_from if keys else None, (*where, "accessKeyIdFrom")),
            secret_access_key=self.secret(
                None, keys.secret_access_key_from if keys else None, (*where, "secretAccessKeyFrom")
            ),
            session_token=self.secret(None, keys.session_token_from if keys else None, (*where, "sessionTokenFrom")),
            tls=self.tls(access.tls, (*path, "tls")),
        )

    def sub_agent(self, agent: SubAgent | None, path: FieldPath) -> c.SubAgentConfig | None:
        if agent is None:
            return None
        return c.SubAgentConfig(
            model=agent.model,
            api_key=self.secret(agent.api_key, agent.api_key_from, (*path, "apiKeyFrom")),
            url=(agent.url or self.spec.upstream.url).rstrip("/"),
            deadline_s=agent.deadline.seconds,
            max_tokens=agent.max_tokens,
        )

    def tls(self, tls: Tls | None, path: FieldPath) -> stores.TlsConfig | None:
        if tls is None:
            return None
        return stores.TlsConfig(
            ca_pem=self.value(tls.ca_from, (*path, "caFrom")),
            certificate_pem=self.value(tls.certificate_from, (*path, "certificateFrom")),
            key_pem=self.secret(None, tls.key_from, (*path, "keyFrom")),
        )

    def secret(self, literal: SecretStr | None, source: ValueFrom | None, path: FieldPath) -> SecretStr:
        return literal if literal is not None else SecretStr(self.value(source, path))

    def value(self, source: ValueFrom | None, path: FieldPath) -> str:
        """The value of a reference, empty for none; what cannot be had becomes a problem."""
        if source is None:
            return ""
        try:
            return self.values.resolve(source)
        except Unresolved as error:
            self.problems.append(self.resource.describe(path, str(error)))
            return ""
