"""Connections to the servers of a managed Redis: one for each pod, kept open, over TLS to the pod's own address."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

TIMEOUT_S = 5.0
"""For connecting, and for the answers to one batch of commands."""
PORT = 6379

Command = tuple[Any, ...]


class NodeUnreachable(Exception):
    """A server does not answer, or not to us. The text says why."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask, and whom to believe."""

    username: str
    passwords: tuple[str, ...] = field(repr=False)
    """Newest first: a node that was not told yet takes the older. An empty one is none."""
    ca_pem: str = field(default="", repr=False)
    """Empty: without TLS, which is for tests."""


class _Connection(Connection):
    """redis-py's, with a TLS context of ours and a name to verify that is not the address."""

    def __init__(self, *, context: ssl.SSLContext | None, server_name: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._context, self._server_name = context, server_name

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = dict(super()._connection_arguments())
        if self._context is not None:
            arguments |= {"ssl": self._context, "server_hostname": self._server_name}
        return arguments


class NodeLink:
    """A connection to one server, for one batch of commands at a time."""

    def __init__(
        self, address: str, server_name: str, access: Access, context: ssl.SSLContext | None, port: int = PORT
    ) -> None:
        self.address, self._port, self._server_name = address, port, server_name
        self._access, self._context = access, context
        self._connection: _Connection | None = None
        self._lock = asyncio.Lock()

    async def ask(self, *commands: Command, timeout_s: float = TIMEOUT_S) -> list[Any]:
        """Send all commands at once; their replies in order. An error reply is a ``RedisError`` as a value.

        Text is decoded so that any bytes survive being sent back. Raises NodeUnreachable.
        """
        try:
            async with self._lock, asyncio.timeout(timeout_s):
                connection = self._connection or await self._connect()
                await connection.send_packed_command(connection.pack_commands(commands))
                return [await self._reply(connection) for _ in commands]
        except (TimeoutError, RedisError, OSError, ssl.SSLError) as error:
            await self.close()
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise NodeUnreachable(f"{self._server_name or self.address}: {reason}") from error
        except asyncio.CancelledError:
            await self.close()
            raise

    async def do(self, *commands: Command, timeout_s: float = TIMEOUT_S) -> list[Any]:
        """The same, and the first error reply is raised as NodeUnreachable's sibling, ``NodeRefused``."""
        replies = await self.ask(*commands, timeout_s=timeout_s)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, RedisError):
                raise NodeRefused(f"{self._server_name or self.address}: {' '.join(map(str, command[:2]))}: {reply}")
        return replies

    def another(self) -> "NodeLink":
        """Another connection to the same server, for what blocks this one; to be closed by who asked for it."""
        return NodeLink(self.address, self._server_name, self._access, self._context, self._port)

    @property
    def certificate(self) -> str:
        """The serial number (hex) of the certificate that the server showed; empty without TLS."""
        writer = self._connection._writer if self._connection else None
        shown = writer.get_extra_info("peercert") if writer else None
        return format(int(shown["serialNumber"], 16), "x") if shown else ""

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    async def _connect(self) -> _Connection:
        for place, password in enumerate(self._access.passwords):
            connection = _Connection(
                context=self._context,
                server_name=self._server_name,
                host=self.address,
                port=self._port,
                username=self._access.username or None,
                password=password or None,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                decode_responses=True,
                encoding_errors="surrogateescape",
                driver_info=None,
            )
            connect: Callable[[], Awaitable[None]] = connection.connect
            try:
                await connect()
            except AuthenticationError:
                await connection.disconnect(nowait=True)
                if place == len(self._access.passwords) - 1:
                    raise
                continue
            self._connection = connection
            return connection
        raise NodeUnreachable(f"{self._server_name or self.address}: no password to ask with")

    @staticmethod
    async def _reply(connection: _Connection) -> Any:
        try:
            return await connection.read_response()
        except RedisError as error:
            # An error reply is a value; a broken connection is not.
            if isinstance(error, OSError) or "onnection" in type(error).__name__:
                raise
            return error


class NodeRefused(Exception):
    """A server answered with an error. The text names the command's first words."""


class NodeLinks:
    """One cluster's connections, by pod."""

    def __init__(self) -> None:
        self._access: Access | None = None
        self._context: ssl.SSLContext | None = None
        self._links: dict[str, NodeLink] = {}

    async def keep(self, access: Access, addresses: Mapping[str, tuple[str, str]]) -> None:
        """Be ready to ask these pods: (address, server name) by pod. Connections to others are closed."""
        if access != self._access:
            await self.close()
            self._access = access
            self._context = ssl.create_default_context(cadata=access.ca_pem) if access.ca_pem else None
        gone = [pod for pod, link in self._links.items() if addresses.get(pod, ("", ""))[0] != link.address]
        await self._close(gone)
        for pod, (address, name) in addresses.items():
            if pod not in self._links:
                self._links[pod] = NodeLink(address, name, access, self._context)

    def __getitem__(self, pod: str) -> NodeLink:
        """Raises NodeUnreachable for a pod that was not there at the last look."""
        if pod not in self._links:
            raise NodeUnreachable(f"{pod}: is not there any more")
        return self._links[pod]

    def __contains__(self, pod: str) -> bool:
        return pod in self._links

    @property
    def access(self) -> Access:
        assert self._access is not None
        return self._access

    async def close(self) -> None:
        await self._close(list(self._links))

    async def _close(self, pods: Iterable[str]) -> None:
        for pod in pods:
            await self._links.pop(pod).close()
