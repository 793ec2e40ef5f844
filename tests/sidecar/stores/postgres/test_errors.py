"""What an error of asyncpg says about a statement."""

import asyncio

import asyncpg
import pytest

from agentmemory_sidecar.stores.postgres import errors
from agentmemory_sidecar.stores.protocols import StoreUnavailable

SECRET = "what a user wrote"


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.SerializationError(SECRET),
        asyncpg.DeadlockDetectedError(SECRET),
        asyncpg.QueryCanceledError(SECRET),
        asyncpg.LockNotAvailableError(SECRET),
        asyncpg.DiskFullError(SECRET),
        asyncpg.InsufficientPrivilegeError(SECRET),
        asyncpg.UndefinedTableError(SECRET),
        asyncpg.InvalidCachedStatementError(SECRET),
        asyncpg.ReadOnlySQLTransactionError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_server_rolled_back_is_definite(error: Exception) -> None:
    failure = errors.failed(error, in_doubt=True)
    assert isinstance(failure, StoreUnavailable)
    assert failure.definite
    assert SECRET not in str(failure)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError(SECRET),
        asyncpg.InterfaceError(SECRET),
        asyncpg.AdminShutdownError(SECRET),
        asyncpg.CrashShutdownError(SECRET),
        asyncpg.StatementCompletionUnknownError(SECRET),
        asyncpg.PostgresIOError(SECRET),
        asyncpg.InternalServerError(SECRET),
        ConnectionResetError(SECRET),
        TimeoutError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_have_happened_is_in_doubt(error: Exception) -> None:
    failure = errors.failed(error, in_doubt=True)
    assert isinstance(failure, errors.Lost)
    assert not failure.definite
    assert SECRET not in str(failure)
    harmless = errors.failed(error, in_doubt=False)
    assert isinstance(harmless, errors.Lost)
    assert harmless.definite


@pytest.mark.parametrize("error", [asyncpg.CharacterNotInRepertoireError(SECRET), asyncpg.ProgramLimitExceededError()])
def test_a_value_that_cannot_be_kept_is_the_callers_error(error: Exception) -> None:
    failure = errors.failed(error, in_doubt=True)
    assert isinstance(failure, ValueError)
    assert SECRET not in str(failure)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("a bug")])
def test_other_errors_are_not_the_stores(error: BaseException) -> None:
    assert errors.failed(error, in_doubt=True) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError(), "in time"),
        (asyncpg.InvalidPasswordError("password authentication failed"), "authentication failed"),
        (ValueError(SECRET), "check dsn"),
    ],
)
def test_a_connection_that_could_not_be_made_is_definite(error: Exception, reason: str) -> None:
    failure = errors.unreachable(error)
    assert failure.definite
    assert reason in str(failure)
    assert SECRET not in str(failure)
