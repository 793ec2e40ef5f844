"""The store's bare commit time: what one durable write costs without any of our code, on the very server in use."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg

ROW_BYTES = 20_000
_ROLE = "agentmemory"


@dataclass(frozen=True, slots=True)
class Commits:
    """Bare commits on the embedded Postgres: times in milliseconds, and the settings that make them durable."""

    times_ms: list[float]
    settings: str


def dsn(postmaster: int) -> str:
    """How to reach the Postgres server with this pid, from the lock file in its data directory (its working folder)."""
    lines = Path(f"/proc/{postmaster}/cwd/postmaster.pid").read_text().splitlines()
    return f"postgresql://{_ROLE}@/{_ROLE}?host={quote(lines[4].strip(), safe='')}&port={lines[3].strip()}"


async def _measure(url: str, count: int) -> Commits:
    connection = await asyncpg.connect(url)
    try:
        names = ("fsync", "synchronous_commit", "full_page_writes")
        settings = ", ".join([f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in names])
        await connection.execute("CREATE TABLE IF NOT EXISTS bench (id int PRIMARY KEY, version int, body bytea)")
        insert = "INSERT INTO bench VALUES (1, 0, '') ON CONFLICT (id) DO UPDATE SET version = 0"
        await connection.execute(insert)
        update = await connection.prepare("UPDATE bench SET body = $1, version = $2 WHERE id = 1 AND version = $3")
        times = []
        for version in range(count):
            body = os.urandom(ROW_BYTES)
            began = time.perf_counter()
            await update.fetch(body, version + 1, version)
            times.append((time.perf_counter() - began) * 1000)
            if update.get_statusmsg() != "UPDATE 1":
                raise RuntimeError(f"the bare conditional update said {update.get_statusmsg()!r}")
        return Commits(times, settings)
    finally:
        await connection.close()


def measure(postmaster: int, count: int) -> Commits:
    """Commit ``count`` conditional updates of a 20 KB row one after another, each a transaction of its own."""
    return asyncio.run(_measure(dsn(postmaster), count))
