"""From the configuration to open stores, starting the embedded ones where it asks for them.

Adapters are imported when they are chosen: a sidecar on Postgres never loads the AWS client.
"""

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agentmemory_sidecar.resource import config as c
from agentmemory_sidecar.stores.protocols import HotStore, ObjectStore, StateStore

if TYPE_CHECKING:
    from agentmemory_sidecar.stores.aws import AwsOptions
    from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres
    from agentmemory_sidecar.stores.embedded.process import EmbeddedServer
    from agentmemory_sidecar.stores.postgres import PostgresOptions
    from agentmemory_sidecar.stores.redis import RedisOptions

POSTGRES_CONNECTIONS = 6
"""For the state tier; the archive works in the background and has its own two."""
AWS_THREADS = 16


@dataclass(slots=True)
class Stores:
    """The open stores of one sidecar. ``close`` closes them and stops what was started for them."""

    hot: HotStore
    state: StateStore
    records: ObjectStore
    blobs: ObjectStore
    servers: "list[EmbeddedServer]" = field(default_factory=list)

    async def close(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for server in self.servers:
                stack.push_async_callback(server.stop)
            for store in (self.hot, self.state, self.records, self.blobs):
                stack.push_async_callback(store.close)


async def open_stores(config: c.SidecarConfig) -> Stores:
    """Raises EmbeddedError where a server of ours cannot be started, StoreUnavailable where a schema cannot be made."""
    async with contextlib.AsyncExitStack() as undo:
        servers: list[EmbeddedServer] = []
        postgres: EmbeddedPostgres | None = None
        if any(isinstance(store, c.EmbeddedStore) for store in (config.state, config.archive)):
            from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres as Server

            postgres = Server(config.data_dir / "postgres")
            servers.append(postgres)
            undo.push_async_callback(postgres.stop)
            await postgres.start()
        hot = await _hot(config, servers, undo)
        state = await _state(config, postgres)
        records, blobs = await _objects(config, postgres)
        undo.pop_all()
        return Stores(hot, state, records, blobs, servers)


async def _hot(config: c.SidecarConfig, servers: "list[EmbeddedServer]", undo: contextlib.AsyncExitStack) -> HotStore:
    from agentmemory_sidecar.stores.redis import RedisHotStore

    if isinstance(config.hot, c.RedisHot):
        return RedisHotStore(_redis(config, config.hot))
    from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey

    server = EmbeddedValkey(config.data_dir / "valkey")
    servers.append(server)
    undo.push_async_callback(server.stop)
    await server.start()
    return RedisHotStore(_redis(config, c.RedisHot(urls=(server.url,))))


def _redis(config: c.SidecarConfig, hot: c.RedisHot) -> "RedisOptions":
    from agentmemory_sidecar.stores.redis import RedisOptions

    tls = hot.tls or c.TlsConfig()
    return RedisOptions(
        urls=hot.urls,
        cluster=hot.cluster,
        username=hot.username,
        password=hot.password.get_secret_value(),
        tls_ca_file=_file(tls.ca_pem) or "",
        tls_cert_file=_file(tls.certificate_pem) or "",
        tls_key_file=_file(tls.key_pem.get_secret_value()) or "",
        timeout_s=config.deadlines.hot_s,
        hot_ttl_s=config.window.hot_ttl_s,
    )


async def _state(config: c.SidecarConfig, postgres: "EmbeddedPostgres | None") -> StateStore:
    if isinstance(config.state, c.DynamoDbState):
        from agentmemory_sidecar.stores.dynamodb import DynamoStateStore

        head = "main" if config.state.strong else config.region
        return DynamoStateStore(_aws(config.state.aws, config.deadlines.state_s), config.state.table, head=head)
    from agentmemory_sidecar.stores.postgres import PostgresStateStore, migrate

    options = _postgres(config.state, postgres, config.deadlines.state_s, POSTGRES_CONNECTIONS)
    if isinstance(config.state, c.EmbeddedStore):
        await migrate(options)
    return PostgresStateStore(options)


async def _objects(config: c.SidecarConfig, postgres: "EmbeddedPostgres | None") -> tuple[ObjectStore, ObjectStore]:
    if isinstance(config.archive, c.S3Archive):
        from agentmemory_sidecar.stores.s3 import S3ObjectStore, S3Options

        aws, archive = _aws(config.archive.aws, config.deadlines.archive_s), config.archive

        def bucket(prefix: str) -> S3ObjectStore:
            path_style = archive.path_style or None
            return S3ObjectStore(aws, S3Options(archive.bucket, archive.key_prefix + prefix, path_style=path_style))

        return bucket("records/"), bucket("blobs/")
    from agentmemory_sidecar.stores.postgres import PostgresObjectStore, migrate

    options = _postgres(config.archive, postgres, config.deadlines.archive_s, 2)
    if isinstance(config.archive, c.EmbeddedStore):
        await migrate(options)
    return PostgresObjectStore(options, "records"), PostgresObjectStore(options, "blobs")


def _postgres(
    store: c.PostgresStore | c.EmbeddedStore, embedded: "EmbeddedPostgres | None", timeout_s: float, connections: int
) -> "PostgresOptions":
    from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresTls

    if isinstance(store, c.EmbeddedStore):
        assert embedded is not None
        return PostgresOptions(embedded.dsn, pool_size=connections, timeout_s=timeout_s)
    tls = None
    if store.tls is not None:
        tls = PostgresTls(
            ca_file=_file(store.tls.ca_pem),
            cert_file=_file(store.tls.certificate_pem),
            key_file=_file(store.tls.key_pem.get_secret_value()),
        )
    return PostgresOptions(store.dsn.get_secret_value(), tls=tls, pool_size=connections, timeout_s=timeout_s)


def _aws(aws: c.AwsConfig, deadline_s: float) -> "AwsOptions":
    from agentmemory_sidecar.stores.aws import AwsOptions

    return AwsOptions(
        region=aws.region,
        endpoint_url=aws.endpoint or None,
        role_arn=aws.role_arn or None,
        threads=AWS_THREADS,
        deadline_s=deadline_s,
    )


def _file(pem: str) -> str | None:
    """A PEM text as a file, which is what libpq-style settings take. It lives as long as the process's directory."""
    if not pem:
        return None
    handle = tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False)  # noqa: SIM115 - must outlive this function
    with handle:
        handle.write(pem)
    return str(Path(handle.name))
