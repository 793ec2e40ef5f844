"""What an error says about a statement: refused for good, unavailable, and whether it may have taken effect."""

import asyncpg

from agentmemory_sidecar.stores.protocols import StoreUnavailable

STORE = "postgres"

_UNDECIDED = ("08", "40003", "57P01", "57P02", "57P03", "58", "XX")
"""SQLSTATEs (or their classes) after which a statement may have been committed: the connection or the server went away,
or the server met a fault of its own. After every other error the server has rolled the statement back."""


class Lost(StoreUnavailable):
    """The connection broke, or was given up, in the middle of a statement."""


class ReadOnly(StoreUnavailable):
    """The server takes no writes: it is, or has become, a standby."""


def unreachable(error: BaseException) -> StoreUnavailable:
    """For an error while connecting: nothing was sent. The server's own words are about the login, not about data."""
    if isinstance(error, asyncpg.PostgresError):
        reason = f"the server refuses the connection: {error} ({error.sqlstate})"
    elif isinstance(error, TimeoutError):
        reason = "no connection in time"
    elif isinstance(error, OSError):
        reason = f"no connection: {error.strerror or type(error).__name__}"
    else:
        # Its text may quote the DSN, and so a password.
        reason = f"no connection: {type(error).__name__}; check dsn, tls and password"
    return StoreUnavailable(STORE, reason, definite=True)


def refused(error: asyncpg.PostgresError) -> StoreUnavailable | ValueError:
    """For an error that the server answered to a statement. Its text may quote data, so only its code is kept."""
    code = error.sqlstate or "XX000"
    name = f"{type(error).__name__} ({code})"
    if code.startswith(("22", "54")):
        return ValueError(
            f"postgres cannot hold a value: {name}. Names must not contain NUL and together stay below 2600 bytes"
        )
    if code == "25006":
        return ReadOnly(STORE, f"the server takes no writes: {name}", definite=True)
    if code in ("42P01", "42703", "3F000"):
        return StoreUnavailable(STORE, f"the tables are not this release's: {name}; run the migrations", definite=True)
    return StoreUnavailable(STORE, f"the statement failed: {name}", definite=not code.startswith(_UNDECIDED))


def lost(error: BaseException, *, sent: bool, writes: bool) -> Lost:
    """For an error without the server's answer."""
    code = getattr(error.__cause__, "sqlstate", None)
    why = f"{type(error).__name__} ({code})" if code else type(error).__name__
    return Lost(STORE, f"no answer: {why}", definite=not (sent and writes))
