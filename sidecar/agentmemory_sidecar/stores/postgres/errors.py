"""What an error says about a statement: refused for good, unavailable, and whether it may have taken effect."""

import asyncpg

from agentmemory_sidecar.stores.protocols import StoreUnavailable

STORE = "postgres"

_UNDECIDED = ("08", "40003", "57P01", "57P02", "57P03", "58", "XX")
"""SQLSTATEs (or their classes) after which a statement may have been committed: the connection or the server went away,
or the server met a fault of its own. After every other error the server has rolled the statement back."""


class Lost(StoreUnavailable):
    """The connection or the server went away in the middle of a statement, or the statement was given up."""


class ReadOnly(StoreUnavailable):
    """The server takes no writes: it is, or has become, a standby."""


class Misconfigured(StoreUnavailable):
    """The server answers, and says no to what the configuration asks of it: waiting changes nothing."""


_WRONG_LOGIN = ("28", "3D", "42")
"""SQLSTATEs (or their classes) of a login that will never work: user, password, database, the right to connect."""
_WRONG_TABLES = ("0A", "3F", "42")
"""SQLSTATEs (or their classes) of a migration that will never work: rights, or other things in the tables' place."""


def unreachable(error: BaseException) -> StoreUnavailable:
    """For an error while connecting: nothing was sent. The server's own words are about the login, not about data."""
    kind = StoreUnavailable
    if isinstance(error, asyncpg.PostgresError):
        reason = f"the server refuses the connection: {_line(error)} ({error.sqlstate})"
        kind = Misconfigured if (error.sqlstate or "").startswith(_WRONG_LOGIN) else kind
    elif isinstance(error, TimeoutError):
        reason = "no connection in time"
    elif isinstance(error, OSError):
        reason = f"no connection: {error.strerror or type(error).__name__}"
    else:
        # Its text may quote the DSN, and so a password.
        reason = f"no connection: {type(error).__name__}; check dsn, tls and password"
        kind = Misconfigured if isinstance(error, ValueError) else kind
    return kind(STORE, reason, definite=True)


def not_migrated(error: BaseException) -> StoreUnavailable:
    """For an error of a migration, which was taken back as a whole. It saw no data, so the server's words are shown."""
    code = getattr(error, "sqlstate", None) or ""
    if code == "42501":
        reason = (
            f"the tables cannot be made: {_line(error)}; grant this role CREATE on the database, or run the migrations"
            " with one that has it (docs/stores.md), and grant this one the use of the tables"
        )
        return Misconfigured(STORE, reason, definite=True)
    wrong = code.startswith(_WRONG_TABLES)
    reason = f"a migration failed and was taken back: {_line(error)}" + (f" ({code})" if code else "")
    if wrong:
        reason += "; the schema agentmemory must be empty, absent, or made by these migrations alone"
    return (Misconfigured if wrong else StoreUnavailable)(STORE, reason, definite=True)


def _line(error: BaseException) -> str:
    """The server's message without its details and hints, which are lines of their own."""
    return str(error.args[0] if error.args else type(error).__name__).split("\n")[0]


def failed(error: BaseException, *, in_doubt: bool) -> StoreUnavailable | ValueError | None:
    """For an error of a statement; None for one that is not the store's, such as a cancellation.

    ``in_doubt``: the statement writes, and was sent. The error's own text may quote data, so only its code is kept.
    """
    code = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None) or ""
    name = f"{type(error).__name__} ({code})" if code else type(error).__name__
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError) or code.startswith(_UNDECIDED):
        return Lost(STORE, f"no answer: {name}", definite=not in_doubt)
    if not isinstance(error, asyncpg.PostgresError):
        return None
    if code.startswith(("22", "54")):
        return ValueError(
            f"postgres cannot hold a value: {name}. Names must not contain NUL and together stay below 2600 bytes"
        )
    if code == "25006":
        return ReadOnly(STORE, f"the server takes no writes: {name}", definite=True)
    if code in ("42P01", "42703", "3F000"):
        return StoreUnavailable(STORE, f"the tables are not this release's: {name}; run the migrations", definite=True)
    return StoreUnavailable(STORE, f"the statement failed: {name}", definite=True)
