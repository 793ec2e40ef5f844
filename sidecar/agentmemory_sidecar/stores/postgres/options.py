"""How to reach a PostgreSQL server."""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

TlsMode = Literal["disable", "require", "verify-ca", "verify-full"]


@dataclass(frozen=True, slots=True)
class PostgresTls:
    """TLS in libpq's terms, without ``allow`` and ``prefer``, which an attacker can turn off. Files are PEM."""

    mode: TlsMode = "verify-full"
    ca_file: str | None = None
    """Authorities to trust; None takes the system's."""
    cert_file: str | None = None
    """A client certificate, with its key in ``key_file`` or in the same file."""
    key_file: str | None = None

    def context(self) -> ssl.SSLContext | Literal[False]:
        """What asyncpg's ``ssl`` takes. Reads the files anew, so that a rotated certificate is used by the next
        connection. Raises OSError or ssl.SSLError on a file that is missing or not PEM."""
        if self.mode == "disable":
            return False
        context = ssl.create_default_context(cafile=self.ca_file)
        context.check_hostname = self.mode == "verify-full"
        if self.mode == "require":
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """Where the server is and how long it may take. Times in seconds."""

    dsn: str = field(repr=False)
    """A libpq URI; several hosts are tried in turn for the one that takes writes."""
    password: str | Callable[[], str] | Callable[[], Awaitable[str]] | None = field(default=None, repr=False)
    """Instead of the one in ``dsn``; a function is asked for each new connection (short-lived tokens)."""
    tls: PostgresTls | None = None
    """None leaves TLS to the ``sslmode`` of ``dsn``."""
    pool_size: int = 4
    """The most connections of one store. They are opened when needed."""
    timeout_s: float = 5.0
    """Every call ends by then, waiting for a connection and opening one included."""
    connect_timeout_s: float = 3.0
    head: str = "main"
    """The item that this endpoint writes (:attr:`StateStore.head`)."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More run-time parameters for each session, beside :meth:`session_settings`."""

    def __post_init__(self) -> None:
        if not self.dsn.startswith(("postgresql://", "postgres://")):
            raise ValueError("postgres: dsn must be a URI that begins with postgresql:// (its text is not shown here)")
        if self.pool_size < 1:
            raise ValueError(f"postgres: pool_size is {self.pool_size}, but must be at least 1")
        if self.timeout_s <= 0 or self.connect_timeout_s <= 0:
            raise ValueError("postgres: timeout_s and connect_timeout_s must be above 0")

    def session_settings(self) -> dict[str, str]:
        """Parameters of each session. ``fsync`` and ``synchronous_commit`` are the server's, and stay untouched."""
        milliseconds = str(max(1, round(self.timeout_s * 1000)))
        return {
            "application_name": "agentmemory",
            # A statement whose client gave up must not take effect much later.
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            # The conditional writes rely on seeing the newest committed row.
            "default_transaction_isolation": "read committed",
            **self.settings,
        }
