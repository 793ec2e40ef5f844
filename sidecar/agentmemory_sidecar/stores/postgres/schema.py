"""The tables' version: brought up to this release's, or checked to be at least that."""

import logging

import asyncpg

from agentmemory_sidecar.layout.postgres import NEEDED, bring_up
from agentmemory_sidecar.stores.postgres import errors
from agentmemory_sidecar.stores.postgres.options import PostgresOptions
from agentmemory_sidecar.stores.postgres.pool import Connection, connect
from agentmemory_sidecar.stores.protocols import StoreUnavailable

log = logging.getLogger(__name__)


class SchemaMismatch(StoreUnavailable):
    """The server answers, but its tables are missing or older than this release needs."""

    def __init__(self, found: int, needed: int) -> None:
        have = f"are at version {found}" if found else "do not exist"
        super().__init__(
            "postgres",
            f"the tables of schema agentmemory {have}, this release needs version {needed}: "
            "run the migrations (agentmemory_sidecar.stores.postgres.migrate) with a role that may create tables",
            definite=True,
        )
        self.found = found
        self.needed = needed


async def migrate(options: PostgresOptions | str) -> list[int]:
    """Bring the tables to this release's version; returns the versions that were applied, in order.

    ``options`` may be a DSN. Idempotent, safe to run from several places at once, and all or nothing. The role needs
    CREATE on the database the first time, and nothing but the tables' use where nothing is to be done. Raises
    :class:`StoreUnavailable`, and :class:`errors.Misconfigured` where waiting changes nothing.
    """
    options = PostgresOptions(options) if isinstance(options, str) else options
    connection = await connect(options, options.connect_timeout_s)
    try:
        # A migration may take long on a big table, and may wait for another one.
        await connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        async with connection.transaction():
            return await bring_up(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise errors.not_migrated(error) from error
    finally:
        await connection.close(timeout=options.timeout_s)


async def check(connection: Connection) -> None:
    """Raise :class:`SchemaMismatch` unless the tables are those of this release or newer; warn of a server that may
    forget what it has acknowledged."""
    try:
        row = await connection.fetchrow(
            "SELECT max(version), current_setting('fsync'), current_setting('synchronous_commit')"
            " FROM agentmemory.schema_version"
        )
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        raise SchemaMismatch(0, NEEDED) from None
    version, fsync, synchronous = row or (0, "on", "on")
    if (version or 0) < NEEDED:
        raise SchemaMismatch(version or 0, NEEDED)
    if "off" in (fsync, synchronous):
        log.warning("postgres: fsync=%s, synchronous_commit=%s: a crash may lose what it saved", fsync, synchronous)
