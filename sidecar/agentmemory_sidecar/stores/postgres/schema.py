"""The tables' versions: numbered SQL files, applied in order, each once.

A migration only adds (columns with defaults, tables, indexes), so that sidecars of an older release go on working on a
newer schema while a rollout is under way; what cannot be an addition needs a new schema name.
"""

import logging
import re
from dataclasses import dataclass
from importlib import resources

import asyncpg

from agentmemory_sidecar.stores.postgres import errors
from agentmemory_sidecar.stores.postgres.options import PostgresOptions
from agentmemory_sidecar.stores.postgres.pool import Connection, connect
from agentmemory_sidecar.stores.protocols import StoreUnavailable

log = logging.getLogger(__name__)

_LOCK = 0x61676D656D  # "agmem": the advisory lock under which migrations run
_FILE = re.compile(r"(\d{3})_\w+\.sql")


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


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All migrations of this release, in order, without a gap."""
    folder = resources.files(__package__) / "migrations"
    found = [
        Migration(int(match[1]), entry.name, entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if (match := _FILE.fullmatch(entry.name))
    ]
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise RuntimeError(f"the migrations of this installation have a gap: {[one.name for one in found]}")
    return found


NEEDED = len(migrations())


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
            return await _apply(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise errors.not_migrated(error) from error
    finally:
        await connection.close(timeout=options.timeout_s)


async def _apply(connection: Connection) -> list[int]:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    if await connection.fetchval("SELECT to_regclass('agentmemory.schema_version')") is None:
        await connection.execute("CREATE SCHEMA IF NOT EXISTS agentmemory")
        await connection.execute(
            "CREATE TABLE agentmemory.schema_version (version integer PRIMARY KEY, name text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
    at: int = await connection.fetchval("SELECT coalesce(max(version), 0) FROM agentmemory.schema_version")
    missing = migrations()[at:]
    for migration in missing:
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO agentmemory.schema_version (version, name) VALUES ($1, $2)", migration.version, migration.name
        )
    return [migration.version for migration in missing]


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
