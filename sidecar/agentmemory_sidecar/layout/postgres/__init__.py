"""The Postgres tables' versions: numbered SQL files, applied in order, each once.

A migration only adds (columns with defaults, tables, indexes), so that sidecars of an older release go on working on a
newer schema while a rollout is under way; what cannot be an addition needs a new schema name.
"""

import re
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

SCHEMA = "agentmemory"
"""The schema of all tables. Its name is written out in the migrations."""

_LOCK = 0x61676D656D  # "agmem": the advisory lock under which migrations run
_FILE = re.compile(r"(\d{3})_\w+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file: several statements, which run in one transaction."""

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
"""The version of the tables that this release works with."""

VERSION = "SELECT coalesce(max(version), 0) FROM agentmemory.schema_version"
"""Reads the version of the tables that are there; fails where there are none."""

THERE = "SELECT to_regclass('agentmemory.schema_version')"
"""Null where there are no tables of ours."""


class Connection(Protocol):
    """What of an asyncpg connection is used here."""

    async def execute(self, query: str, /, *arguments: Any) -> Any: ...

    async def fetchval(self, query: str, /, *arguments: Any) -> Any: ...


async def bring_up(connection: Connection) -> list[int]:
    """Bring the tables to this release's version; returns the versions that were applied, in order.

    Call it within a transaction: then it is all or nothing. Idempotent, and safe to run from several places at once.
    The role needs CREATE on the database the first time, and nothing but the tables' use where nothing is to be done.
    Raises what the connection raises.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    if await connection.fetchval(THERE) is None:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        await connection.execute(
            "CREATE TABLE agentmemory.schema_version (version integer PRIMARY KEY, name text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
    at: int = await connection.fetchval(VERSION)
    missing = migrations()[at:]
    for migration in missing:
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO agentmemory.schema_version (version, name) VALUES ($1, $2)", migration.version, migration.name
        )
    return [migration.version for migration in missing]
