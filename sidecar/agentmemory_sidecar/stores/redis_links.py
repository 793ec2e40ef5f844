"""Connections to Redis: one for each node, shared by all calls.

redis-py connects (TLS, authentication, keep-alive) and knows a cluster's map. Its pools, though, give a connection to
one call at a time; here every call writes to the same connection at once, and the replies, which come in order, are
handed out as they arrive. Since someone always listens, a connection that the server has closed is known before the
next call uses it.
"""

import asyncio
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import hiredis
from redis.asyncio import ConnectionPool, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import RedisClusterException, RedisError

from agentmemory_sidecar.tasks import Tasks

REFRESH_PAUSE_S = 0.1
"""Between two looks at a cluster's topology."""

KEEPALIVE = {
    number: value
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if (number := getattr(socket, name, None)) is not None
}
"""A peer that vanished without a word is noticed while the connection idles, not by the next call."""

Command = tuple[Any, ...]
"""A command's words: text, bytes or integers."""


class NotSent(Exception):
    """The command did not leave: it has had no effect."""


class Closed(NotSent):
    """The connection was found closed before the command left; a new one may serve."""


class Lost(Exception):
    """The connection went after the command was sent: nobody knows its effect."""


class Refused(Exception):
    """An error reply, as a value. Its text may quote a key or an argument, so only ``code`` is for logs."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.split(" ", 1)[0]

    @property
    def address(self) -> tuple[str, int]:
        """Where MOVED and ASK point to."""
        host, _, port = str(self).split(" ")[2].rpartition(":")
        return host, int(port)


NOTHING = object()


class Overdue(Exception):
    """No reply by the deadline, as a value. The command may have had its effect."""


class Link(asyncio.Protocol):
    """One connection, shared. Replies are matched to commands by their order."""

    def __init__(self, name: str, connection: AbstractConnection) -> None:
        self.name = name
        self._connection = connection
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._replies = hiredis.Reader(replyError=Refused, notEnoughData=NOTHING)
        self._writer: asyncio.StreamWriter | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._poll = select.poll()
        self._retired = False
        self._timeout_s = 0.0
        self._oldest: deque[float] = deque()
        """When each of those that wait was sent (loop time)."""
        self._watch: asyncio.TimerHandle | None = None
        self.gone = asyncio.Event()
        """Set when the connection is closed for good."""

    async def open(self, timeout_s: float) -> None:
        """Connect and authenticate. Raises :class:`NotSent`."""
        self._timeout_s = timeout_s
        connect: Callable[[], Awaitable[None]] = self._connection.connect
        try:
            async with asyncio.timeout(timeout_s):
                await connect()
        except TimeoutError:
            await self._connection.disconnect(nowait=True)
            raise NotSent("no connection in time") from None
        except (RedisError, OSError) as error:
            raise NotSent(reason_of(error)) from error
        except asyncio.CancelledError:
            await self._connection.disconnect(nowait=True)
            raise
        # From here the connection is ours, and redis-py must not think that it is to be closed with its own object. The
        # writer is kept because it closes its transport when it is collected.
        connection = self._connection
        self._writer = connection._writer
        connection._reader = connection._writer = None
        assert self._writer is not None
        self._transport = self._writer.transport
        self._transport.set_protocol(self)
        self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._retired and not self._transport.is_closing()

    async def settled(self) -> None:
        """Let an end that has arrived but was not read yet be read: while nobody waits, there is nothing else to read."""
        if self.usable and not self._waiting and self._poll.poll(0):
            for _ in range(2):  # one turn of the loop finds the socket readable, the next one reads it
                await asyncio.sleep(0)

    def ask(self, command: Command) -> asyncio.Future[Any] | None:
        """Send at once, with the link's own deadline: its future gets the reply, or :class:`Refused`, :class:`Lost` or
        :class:`Overdue` as a value. None where that is not possible now, and nothing was sent.

        One timer watches all that wait: replies come in order, so the oldest is the first to be overdue.
        """
        if not self.usable or (not self._waiting and self._poll.poll(0)):
            return None
        try:
            future = self.send(command)
        except Closed:
            return None
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(self._timeout_s / 10, self._look)
        return future

    def _look(self) -> None:
        self._watch = None
        loop = asyncio.get_running_loop()
        if not self._waiting:
            return
        if loop.time() - self._oldest[0] < self._timeout_s * 0.9:
            self._watch = loop.call_later(self._timeout_s / 10, self._look)
            return
        # All of them wait behind the one that does not come.
        for future in self._waiting:
            if not future.done():
                future.set_result(Overdue())
        self.retire()

    def send(self, *commands: Command) -> asyncio.Future[Any]:
        """Write commands in one piece; returns the future of the last one's reply.

        It gets the reply; :class:`Refused` or :class:`Lost` is its value too, never its exception. Raises
        :class:`Closed` when nothing was written.
        """
        if self._transport is None or not self.usable:
            raise Closed("connection closed")
        loop = asyncio.get_running_loop()
        for _ in commands:
            future = loop.create_future()
            self._waiting.append(future)
            self._oldest.append(loop.time())
        # No waiting for the buffer to drain: what is in it is bounded by the calls, and each call by its deadline.
        self._transport.write(b"".join(map(hiredis.pack_command, commands)))
        if self._transport.is_closing():
            # Refused by the kernel at once, so not a byte left.
            for _ in commands:
                self._waiting.pop()
                self._oldest.pop()
            raise Closed("connection closed")
        return future

    def data_received(self, data: bytes) -> None:
        replies, waiting = self._replies, self._waiting
        replies.feed(data)
        try:
            while (reply := replies.gets()) is not NOTHING:
                self._oldest.popleft()
                if not (future := waiting.popleft()).done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close()  # whatever this is, it does not speak the protocol
        if self._retired and not waiting:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()
        if self._watch is not None:
            self._watch.cancel()
        lost = Lost(f"connection lost{f': {type(error).__name__}' if error else ''}")
        while self._waiting:
            if not (future := self._waiting.popleft()).done():
                future.set_result(lost)

    def retire(self) -> None:
        """Take no more commands; close once nobody waits for a reply."""
        self._retired = True
        if all(future.done() for future in self._waiting):
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def reason_of(error: BaseException) -> str:
    """What may be said of a connection's error: redis-py's text names hosts, never keys or values."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


class Routes(Protocol):
    """Which connection a key's commands go through."""

    def ready(self, key: bytes) -> Link | None:
        """The connection of :meth:`link` if it is open already."""
        ...

    async def link(self, key: bytes) -> Link:
        """An open connection to the key's primary. Raises :class:`NotSent`."""
        ...

    async def link_to(self, host: str, port: int) -> Link: ...

    def changed(self, link: Link | None) -> bool:
        """Told that what ``link`` leads to does not serve; True when it is worth asking :meth:`link` again."""
        ...

    async def close(self) -> None: ...


class OneAtATime:
    """Opens each address's connection once, however many ask for it at the same moment."""

    def __init__(self, tasks: Tasks, timeout_s: float) -> None:
        self._tasks = tasks
        self._timeout_s = timeout_s
        self._links: dict[str, Link] = {}
        self._open_links: set[Link] = set()
        self._opening: dict[str, asyncio.Task[Link | NotSent]] = {}

    def ready(self, name: str) -> Link | None:
        link = self._links.get(name)
        return link if link is not None and link.usable else None

    async def open(self, name: str, make: Callable[[], AbstractConnection]) -> Link:
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = self._tasks.start(self._open(name, make), "redis connect")
            opening.add_done_callback(lambda _: self._opening.pop(name, None))
        # Shielded: one caller's deadline must not end what others wait for. The connection has its own.
        link = await asyncio.shield(opening)
        if isinstance(link, NotSent):
            raise link
        return link

    async def _open(self, name: str, make: Callable[[], AbstractConnection]) -> Link | NotSent:
        link = Link(name, make())
        try:
            await link.open(self._timeout_s)
        except NotSent as error:
            return error
        self._links[name] = link
        self._open_links = {link, *(each for each in self._open_links if not each.gone.is_set())}
        return link

    def keep(self, names: set[str]) -> None:
        """Let go of connections to addresses that are no longer in use."""
        for name in self._links.keys() - names:
            self._links.pop(name).retire()

    async def close(self) -> None:
        for link in self._open_links:
            link.close()
            await link.gone.wait()
        self._links.clear()


class StandaloneRoutes:
    """One server, or whatever a proxy or a DNS name leads to."""

    def __init__(self, pool: ConnectionPool, tasks: Tasks, timeout_s: float) -> None:
        self._pool = pool
        self._links = OneAtATime(tasks, timeout_s)

    def ready(self, key: bytes) -> Link | None:
        return self._links.ready("")

    async def link(self, key: bytes) -> Link:
        return self._links.ready("") or await self._links.open("", self._pool.make_connection)

    async def link_to(self, host: str, port: int) -> Link:
        raise NotSent("a server that is no cluster redirected a command; set `cluster` for this Redis")

    def changed(self, link: Link | None) -> bool:
        # The same address may lead to another server by now, or soon.
        if link is not None:
            link.retire()
        return False

    async def close(self) -> None:
        await self._links.close()


class ClusterRoutes:
    """A Redis Cluster: redis-py keeps the map of slots, and is asked to look again when a node contradicts it."""

    def __init__(self, cluster: RedisCluster, tasks: Tasks, timeout_s: float) -> None:
        self._cluster = cluster
        self._tasks = tasks
        self._links = OneAtATime(tasks, timeout_s)
        self._stale = True
        self._suspect = ""
        self._refreshing: asyncio.Task[str] | None = None
        self._not_before = 0.0

    def ready(self, key: bytes) -> Link | None:
        nodes = None if self._stale else self._cluster.nodes_manager.slots_cache.get(key_slot(key))
        return self._links.ready(nodes[0].name) if nodes else None

    async def link(self, key: bytes) -> Link:
        slots = self._cluster.nodes_manager.slots_cache
        if self._stale or not slots:
            await self._refresh()
            slots = self._cluster.nodes_manager.slots_cache
        nodes = slots.get(key_slot(key))
        if not nodes:
            self._stale = True
            raise NotSent("no node of the cluster serves this slot")
        node = nodes[0]
        if (link := self._links.ready(node.name)) is not None:
            return link
        self._suspect = node.name  # should the caller's deadline come first
        try:
            return await self._links.open(node.name, lambda: _connection(node))
        except NotSent:
            self._stale = True
            raise

    async def link_to(self, host: str, port: int) -> Link:
        node = self._cluster.nodes_manager.get_node(host, port)
        if node is None:
            node = ClusterNode(host, port, **self._cluster.nodes_manager.connection_kwargs)
        return self._links.ready(node.name) or await self._links.open(node.name, lambda: _connection(node))

    def changed(self, link: Link | None) -> bool:
        self._stale = True
        if link is not None:
            self._suspect = link.name
        return True

    async def _refresh(self) -> None:
        """Ask the cluster for its map; once for all who wait, and not more often than each ``REFRESH_PAUSE_S``."""
        if self._refreshing is None:
            self._refreshing = self._tasks.start(self._ask(), "redis cluster map")
            self._refreshing.add_done_callback(self._refreshed)
        failure = await asyncio.shield(self._refreshing)
        if failure:
            raise NotSent(failure)

    def _refreshed(self, task: asyncio.Task[str]) -> None:
        self._refreshing = None

    async def _ask(self) -> str:
        manager = self._cluster.nodes_manager
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._not_before - loop.time())
        try:
            # The nodes named in the configuration, and as a second chance those known from before: pods come back with
            # new addresses behind an old name, and a name may point to a node that is down.
            known = [(node.host, int(node.port)) for node in manager.nodes_cache.values()]
            await manager.initialize(known, last_failed_node_name=self._suspect)
        except (RedisError, RedisClusterException, OSError) as error:
            return reason_of(error)
        finally:
            self._not_before = loop.time() + REFRESH_PAUSE_S
        self._stale = False
        self._links.keep({node.name for node in manager.nodes_cache.values()})
        return ""

    async def close(self) -> None:
        await self._links.close()
        await self._cluster.nodes_manager.aclose()
        await self._cluster.nodes_manager.aclose("startup_nodes")


def _connection(node: ClusterNode) -> AbstractConnection:
    """A new connection to a node, outside of the pool that redis-py keeps for its own questions."""
    connection: AbstractConnection = node.connection_class(**node.connection_kwargs | {"socket_timeout": None})
    return connection
