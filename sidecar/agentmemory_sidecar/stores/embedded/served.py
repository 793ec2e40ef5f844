"""The embedded servers for others: one Valkey and one Postgres on a pod's addresses, with passwords. For first tries.

Both servers are built without TLS, so passwords and data travel as they are: keep it inside a cluster. Who comes by the
network is an ordinary user in both: an owner of one database, and a Valkey user without administration.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from agentmemory_sidecar.stores.embedded.files import EmbeddedError
from agentmemory_sidecar.stores.embedded.postgres import EmbeddedPostgres
from agentmemory_sidecar.stores.embedded.process import EmbeddedServer
from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey

VALKEY_USER = "agentmemory"
POSTGRES_USER = DATABASE = "memory"
_VALKEY_RULES = ("on", "~*", "&*", "+@all", "-@admin", "-@dangerous", "+info")
"""INFO tells a script which run of the server it meets."""
_PASSWORD = re.compile(r"[A-Za-z0-9_-]{16,128}")
"""What needs quoting neither in a URL nor in a statement."""
_CONNECTIONS = "200"
"""A sidecar opens eight at the most, and two when it has little to do."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """Read from a mounted Secret: a file for each."""

    valkey: str = field(repr=False)
    postgres: str = field(repr=False)

    @classmethod
    def read(cls, secrets: Path) -> Self:
        """Raises EmbeddedError, which quotes no password."""
        return cls(*(_password(secrets / name) for name in ("valkey-password", "postgres-password")))


def _password(file: Path) -> str:
    try:
        text = file.read_text().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text"
        raise EmbeddedError(f"The password {file} cannot be read: {reason}. Put it into the Secret.") from None
    if not _PASSWORD.fullmatch(text):
        raise EmbeddedError(f"The password {file} must be 16 to 128 letters, digits, - or _. Make another one.")
    return text


class ServedStores:
    """Both servers below ``data``. Port numbers are TCP's; ``hosts`` are the addresses to listen at, ``*`` for all."""

    def __init__(
        self, data: Path, passwords: Passwords, *, valkey_port: int, postgres_port: int, host: str = "*"
    ) -> None:
        self._passwords = passwords
        everywhere = host == "*"
        self.postgres = EmbeddedPostgres(
            data / "postgres",
            port=postgres_port,
            settings={
                "listen_addresses": host,
                "max_connections": _CONNECTIONS,
                "password_encryption": "scram-sha-256",
            },
            access=(f"host {DATABASE} {POSTGRES_USER} all scram-sha-256",),
        )
        self.valkey = EmbeddedValkey(
            data / "valkey",
            valkey_port,
            # A dash: an address family that this pod lacks is no error.
            bind=("*", "-::*") if everywhere else (host,),
            users=((VALKEY_USER, f">{passwords.valkey}", *_VALKEY_RULES),),
        )

    @property
    def servers(self) -> tuple[EmbeddedServer, ...]:
        """In the order of their stopping: what holds the truth ends last."""
        return self.valkey, self.postgres

    async def start(self) -> None:
        """Start both, and let the user in with the password of now. Raises EmbeddedError."""
        try:
            await self.postgres.start(120)
            await self._let_in()
            await self.valkey.start()
        except BaseException:
            await self.stop()
            raise

    async def _let_in(self) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.postgres.dsn_of("postgres"))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", POSTGRES_USER):
                await connection.execute(f"CREATE ROLE {POSTGRES_USER} LOGIN")
            # No parameter is possible here; a password has no character that would end the literal.
            await connection.execute(f"ALTER ROLE {POSTGRES_USER} PASSWORD '{self._passwords.postgres}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {POSTGRES_USER}")
        finally:
            await connection.close()

    async def stop(self) -> None:
        for server in self.servers:
            await server.stop()
