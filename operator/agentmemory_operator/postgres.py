"""Postgres as the operator uses it: a connection for each look, and what its errors mean."""

import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from agentmemory_operator.tiers import TierFailed

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECT_S = 5.0
REFUSED = ("28", "3D", "42")
"""SQLSTATEs (or their classes) after which waiting changes nothing: login, database, rights, things in the way."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where a database is, and as whom."""

    dsn: str = field(repr=False)
    verified: bool = False
    """Whether TLS is always used and the server verified; else the DSN's ``sslmode`` decides."""
    ca_pem: str = field(default="", repr=False)
    """Authorities to trust; empty for the system's."""
    certificate_pem: str = field(default="", repr=False)
    key_pem: str = field(default="", repr=False)


class PostgresFailed(TierFailed):
    """The database cannot be used. ``refused``: it says no, and waiting changes nothing."""

    def __init__(self, message: str, *, refused: bool, code: str = "") -> None:
        super().__init__(message)
        self.refused = refused
        self.code = code


@asynccontextmanager
async def connected(login: Login) -> AsyncIterator[Connection]:
    """A connection to the server that takes writes. Raises PostgresFailed, also for what goes wrong with it later."""
    try:
        connection = await asyncpg.connect(
            login.dsn,
            ssl=_tls(login) if login.verified else None,
            timeout=CONNECT_S,
            statement_cache_size=0,
            server_settings={"application_name": "agentmemory-operator"},
            target_session_attrs=SessionAttribute.read_write,
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError) as error:
        raise failed(error) from error
    try:
        yield connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise failed(error) from error
    finally:
        await connection.close(timeout=CONNECT_S)


def failed(error: Exception) -> PostgresFailed:
    """What an error means. The server's own words are shown, for it has seen no user's data; others may quote the DSN."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        line = str(error.args[0] if error.args else "").split("\n")[0]
        text = f"Postgres refuses: {line} ({code})"
        if code == "42501":
            text += "; grant the role CREATE on the database, or give adminDsnFrom a role that has it"
        elif code.startswith("42"):
            text += "; the schema agentmemory must be absent, empty, or made by these migrations alone"
        return PostgresFailed(text, refused=code.startswith(REFUSED), code=code)
    if isinstance(error, TimeoutError):
        return PostgresFailed("Postgres does not answer in time", refused=False)
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or error.reason or type(error).__name__
        return PostgresFailed(f"no TLS to Postgres: {reason}; check tls.caFrom and the host's name", refused=True)
    if isinstance(error, OSError):
        return PostgresFailed(f"no connection to Postgres: {error.strerror or type(error).__name__}", refused=False)
    text = f"no connection to Postgres: {type(error).__name__}; check the DSN, its password and tls"
    return PostgresFailed(text, refused=isinstance(error, ValueError))


def _tls(login: Login) -> Any:
    context = ssl.create_default_context(cadata=login.ca_pem or None)
    if login.certificate_pem:
        with tempfile.TemporaryDirectory(prefix="agentmemory-") as folder:  # Python reads a key from a file alone
            file = Path(folder) / "client.pem"
            file.touch(mode=0o600)
            file.write_text(f"{login.certificate_pem}\n{login.key_pem}")
            context.load_cert_chain(file)
    return context
