"""From the configuration to open stores, starting the embedded ones where it asks for them.

Adapters are imported when they are chosen: a sidecar on Postgres never loads the AWS client.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from agentmemory_sidecar.resource import SidecarConfig, store_config
from agentmemory_sidecar.resource.archive import LockMode
from agentmemory_sidecar.stores.protocols import HotStore, KeyShelf, ObjectStore, StateStore, StoreUnavailable
from agentmemory_sidecar.tls import PemFiles, certificates

if TYPE_CHECKING:
    from agentmemory_sidecar.stores.aws import AwsOptions
    from agentmemory_sidecar.stores.cosmosdb import CosmosStateStore
    from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres
    from agentmemory_sidecar.stores.embedded.process import EmbeddedServer
    from agentmemory_sidecar.stores.postgres import PostgresOptions
    from agentmemory_sidecar.stores.redis import RedisOptions

log = logging.getLogger(__name__)

POSTGRES_CONNECTIONS = 6
"""For the state tier; the archive works in the background and has its own two."""
AWS_THREADS = 16
TABLES_PAUSE_S = 5.0
"""How long before a database that could not be reached at the start is asked again whether it has its tables."""


@dataclass(slots=True)
class Stores:
    """The open stores of one sidecar. ``close`` closes them and stops what was started for them."""

    hot: HotStore
    state: StateStore
    records: ObjectStore
    blobs: ObjectStore
    servers: "list[EmbeddedServer]" = field(default_factory=list)
    files: PemFiles = field(default_factory=PemFiles)
    """What the stores' connections are made with."""
    without_tables: "list[PostgresOptions]" = field(default_factory=list)
    """Databases that could not be reached at the start: nobody knows whether they have our tables."""
    shelf: KeyShelf | None = None
    """For wrapped sealing keys, beside the state."""
    elsewhere: tuple[tuple[StateStore, KeyShelf], ...] = ()
    """The state tier at its endpoints in other regions, each with its own head."""

    async def make_tables(self) -> None:
        """Go on until each of ``without_tables`` has been reached."""
        from agentmemory_sidecar.stores.postgres import Misconfigured

        while self.without_tables:
            await asyncio.sleep(TABLES_PAUSE_S)
            for options in tuple(self.without_tables):
                try:
                    await _make_tables(options)
                except Misconfigured as error:
                    log.error("%s", error)
                except StoreUnavailable:
                    continue
                self.without_tables.remove(options)

    async def close(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.files.close)
            for server in self.servers:
                stack.push_async_callback(server.stop)
            for store in (self.hot, self.state, self.records, self.blobs):
                stack.push_async_callback(store.close)
            for state, _ in self.elsewhere:
                stack.push_async_callback(state.close)


async def open_stores(config: SidecarConfig) -> Stores:
    """Raises EmbeddedError where a server of ours cannot be started, StoreUnavailable where a database will never have
    our tables, TlsError where certificates are none. Whatever may come right by itself is a warning in the log."""
    async with contextlib.AsyncExitStack() as undo:
        files = PemFiles()
        undo.callback(files.close)
        servers: list[EmbeddedServer] = []
        without_tables: list[PostgresOptions] = []
        postgres: EmbeddedPostgres | None = None
        if any(isinstance(store, store_config.EmbeddedStore) for store in (config.state, config.archive)):
            from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres as Server

            postgres = Server(config.data_dir / "postgres")
            servers.append(postgres)
            undo.push_async_callback(postgres.stop)
            await postgres.start()
        opening = _Opening(config, postgres, files, without_tables)
        hot = await _hot(opening, servers, undo)
        undo.push_async_callback(hot.close)
        state, shelf = await _state(opening)
        undo.push_async_callback(state.close)
        records, blobs = await _objects(opening)
        elsewhere = tuple(_elsewhere(opening))
        undo.pop_all()
        return Stores(hot, state, records, blobs, servers, files, without_tables, shelf, elsewhere)


@dataclass(frozen=True, slots=True)
class _Opening:
    config: SidecarConfig
    postgres: "EmbeddedPostgres | None"
    files: PemFiles
    without_tables: "list[PostgresOptions]"


async def _hot(opening: _Opening, servers: "list[EmbeddedServer]", undo: contextlib.AsyncExitStack) -> HotStore:
    from agentmemory_sidecar.stores.redis import RedisHotStore

    config = opening.config
    if isinstance(config.hot, store_config.RedisHot):
        return RedisHotStore(_redis(opening, config.hot))
    from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey

    server = EmbeddedValkey(config.data_dir / "valkey")
    servers.append(server)
    undo.push_async_callback(server.stop)
    await server.start()
    return RedisHotStore(_redis(opening, store_config.RedisHot(urls=(server.url,))))


def _redis(opening: _Opening, hot: store_config.RedisHot) -> "RedisOptions":
    from agentmemory_sidecar.stores.redis import RedisOptions

    config = opening.config
    tls = certificates(hot.tls, "spec.ephemeral.redis.external.tls", opening.files)
    return RedisOptions(
        urls=hot.urls,
        cluster=hot.cluster,
        username=hot.username,
        password=hot.password.get_secret_value(),
        tls_ca_file=tls.ca_file,
        tls_cert_file=tls.cert_file,
        tls_key_file=tls.key_file,
        timeout_s=config.deadlines.hot_s,
        hot_ttl_s=config.window.hot_ttl_s,
    )


async def _state(opening: _Opening) -> tuple[StateStore, KeyShelf]:
    config = opening.config
    if isinstance(config.state, store_config.DynamoDbState):
        from agentmemory_sidecar.stores.dynamodb import DynamoStateStore

        head = "main" if config.state.strong else config.region
        aws = _aws(config.state.aws, config.deadlines.state_s, "spec.state.dynamodb.tls", opening.files)
        store = DynamoStateStore(aws, config.state.table, head=head)
        await _look(store)
        return store, store.shelf
    if isinstance(config.state, store_config.CosmosDbState):
        several = config.state.multi_region_writes
        cosmos = _cosmos(opening, config.state, config.state.access, config.region if several else "main")
        await _look(cosmos)
        return cosmos, cosmos.shelf
    from agentmemory_sidecar.stores.postgres import PostgresKeyShelf, PostgresStateStore

    options = _postgres(opening, config.state, "state", config.deadlines.state_s, POSTGRES_CONNECTIONS)
    await _tables(opening, config.state, options)
    state = PostgresStateStore(options)
    return state, PostgresKeyShelf(state.pool)


def _elsewhere(opening: _Opening) -> "Iterator[tuple[StateStore, KeyShelf]]":
    """Nothing is asked there before it is needed."""
    state = opening.config.state
    if isinstance(state, store_config.CosmosDbState):
        for each in state.elsewhere:
            cosmos = _cosmos(opening, state, each.access, each.region)
            yield cosmos, cosmos.shelf
    if not isinstance(state, store_config.DynamoDbState) or state.strong:
        return
    from agentmemory_sidecar.stores.dynamodb import DynamoStateStore

    for other in state.elsewhere:
        aws = _aws(other.aws, opening.config.deadlines.state_s, "spec.state.dynamodb.tls", opening.files)
        store = DynamoStateStore(aws, state.table, head=other.region)
        yield store, store.shelf


def _cosmos(
    opening: _Opening, state: store_config.CosmosDbState, access: store_config.CosmosConfig, head: str
) -> "CosmosStateStore":
    from agentmemory_sidecar.stores.cosmosdb import CosmosStateStore
    from agentmemory_sidecar.stores.cosmosdb_account import CosmosOptions

    tls = certificates(access.tls, "spec.state.cosmosdb.tls", opening.files)
    options = CosmosOptions(
        endpoint=access.endpoint,
        key=access.key.get_secret_value(),
        database=state.database,
        container=state.container,
        locations=access.locations,
        every_region_writes=state.multi_region_writes,
        deadline_s=opening.config.deadlines.state_s,
        ca_file=tls.ca_file,
        cert_file=tls.cert_file,
        key_file=tls.key_file,
    )
    return CosmosStateStore(options, head=head)


async def _objects(opening: _Opening) -> tuple[ObjectStore, ObjectStore]:
    config = opening.config
    if isinstance(config.archive, store_config.S3Archive):
        from agentmemory_sidecar.stores.s3 import S3ObjectStore, S3Options

        archive = config.archive
        aws = _aws(archive.aws, config.deadlines.archive_s, "spec.archive.s3.tls", opening.files)

        blobs = S3Options(
            archive.bucket,
            archive.key_prefix + "blobs/",
            encryption="aws:kms" if archive.kms_key_arn else None,
            kms_key=archive.kms_key_arn or None,
            path_style=archive.path_style or None,
        )
        records = replace(blobs, prefix=archive.key_prefix + "records/")
        if archive.lock_mode is not None:
            mode: Literal["GOVERNANCE", "COMPLIANCE"]
            mode = "GOVERNANCE" if archive.lock_mode is LockMode.GOVERNANCE else "COMPLIANCE"
            records = replace(records, lock_mode=mode, lock_days=archive.lock_days)
        store = S3ObjectStore(aws, records)
        await _look(store)
        return store, S3ObjectStore(aws, blobs)
    from agentmemory_sidecar.stores.postgres import PostgresObjectStore

    options = _postgres(opening, config.archive, "archive", config.deadlines.archive_s, 2)
    if config.archive != config.state:
        await _tables(opening, config.archive, options)
    return PostgresObjectStore(options, "records"), PostgresObjectStore(options, "blobs")


def _postgres(
    opening: _Opening,
    store: store_config.PostgresStore | store_config.EmbeddedStore,
    tier: str,
    timeout_s: float,
    connections: int,
) -> "PostgresOptions":
    from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresTls

    if isinstance(store, store_config.EmbeddedStore):
        assert opening.postgres is not None
        return PostgresOptions(opening.postgres.dsn, pool_size=connections, timeout_s=timeout_s)
    tls = None
    if store.tls is not None:
        found = certificates(store.tls, f"spec.{tier}.postgres.tls", opening.files)
        tls = PostgresTls(
            ca_file=found.ca_file or None, cert_file=found.cert_file or None, key_file=found.key_file or None
        )
    return PostgresOptions(store.dsn.get_secret_value(), tls=tls, pool_size=connections, timeout_s=timeout_s)


async def _tables(
    opening: _Opening, store: store_config.PostgresStore | store_config.EmbeddedStore, options: "PostgresOptions"
) -> None:
    """Make the tables that are missing. A database of others that cannot be reached now may be reached later."""
    from agentmemory_sidecar.stores.postgres import Misconfigured

    try:
        await _make_tables(options)
    except StoreUnavailable as error:
        if isinstance(error, Misconfigured) or isinstance(store, store_config.EmbeddedStore):
            raise
        log.warning("%s (starting without it, and trying again)", error)
        opening.without_tables.append(options)


async def _make_tables(options: "PostgresOptions") -> None:
    from agentmemory_sidecar.stores.postgres import migrate

    made = await migrate(options)
    if made:
        log.info("postgres: made the tables of schema agentmemory, version %d", made[-1])


async def _look(store: StateStore | ObjectStore) -> None:
    """Say early, and once, what every turn would otherwise be the first to meet: nobody may be there to read a 503."""
    try:
        await store.ping()
    except StoreUnavailable as error:
        log.warning("%s (starting without it)", error)


def _aws(aws: store_config.AwsConfig, deadline_s: float, field: str, files: PemFiles) -> "AwsOptions":
    from agentmemory_sidecar.stores.aws import AwsOptions

    tls = certificates(aws.tls, field, files)
    return AwsOptions(
        region=aws.region,
        endpoint_url=aws.endpoint or None,
        role_arn=aws.role_arn or None,
        threads=AWS_THREADS,
        deadline_s=deadline_s,
        access_key_id=aws.access_key_id,
        secret_access_key=aws.secret_access_key.get_secret_value(),
        session_token=aws.session_token.get_secret_value(),
        ca_file=tls.ca_file,
        cert_file=tls.cert_file,
        key_file=tls.key_file,
    )
