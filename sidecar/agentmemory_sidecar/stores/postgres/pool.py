"""A few connections, used one statement at a time.

asyncpg's own pool resets a connection after each use, which is a second round trip; nothing here ever changes a
session, so there is nothing to reset. Every call is one prepared statement in its own transaction.
"""

import asyncio
import select
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from agentmemory_sidecar.stores.postgres import errors
from agentmemory_sidecar.stores.postgres.options import PostgresOptions
from agentmemory_sidecar.stores.postgres.statements import WRITABLE
from agentmemory_sidecar.stores.protocols import StoreUnavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

PROBE_AFTER_S = 30.0
"""A connection idle for longer answers a probe before it carries a write: a NAT or a failover may have cut it silently,
and a write into the void would leave its caller in doubt."""
CLOSE_AFTER_S = 300.0
"""Connections beyond the first that nobody needed for so long are closed."""


async def connect(options: PostgresOptions, timeout_s: float) -> Connection:
    """A connection to the server that takes writes. Raises :class:`StoreUnavailable`, always definite."""
    try:
        return await asyncpg.connect(
            options.dsn,
            password=options.password,
            ssl=None if options.tls is None else options.tls.context(),
            timeout=timeout_s,
            # Statements are prepared by hand, once for each connection: the cache would only add its bookkeeping.
            statement_cache_size=0,
            server_settings=options.session_settings(),
            target_session_attrs=SessionAttribute.read_write,
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError) as error:
        raise errors.unreachable(error) from error


class Link:
    """One connection with its prepared statements."""

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._prepared: dict[str, Any] = {}
        self._loop = loop
        self._arrivals = select.poll()
        self.idle_since = loop.time()
        # asyncpg offers no other way to its socket. Only asked whether something came in while nobody waited for it.
        socket = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        self._arrivals.register(socket.fileno(), select.POLLIN)

    @property
    def closed(self) -> bool:
        return self._connection.is_closed()

    async def run(self, sql: str, args: tuple[object, ...], deadline: float, *, writes: bool) -> list[asyncpg.Record]:
        """One statement. Raises what ``errors`` makes of a failure; after :class:`errors.Lost` the link is closed."""
        # At the deadline the connection is cut, not asked to cancel: that would take another connection, and wait.
        # The server's own statement_timeout ends what still runs there.
        timer = self._loop.call_at(deadline, self._connection.terminate)
        sent = False
        try:
            statement = self._prepared.get(sql)
            if statement is None:
                statement = self._prepared[sql] = await self._connection.prepare(sql, name=f"am{len(self._prepared)}")
            sent = True
            rows: list[asyncpg.Record] = await statement.fetch(*args)
            return rows
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.ConnectionDoesNotExistError) as error:
            self._connection.terminate()
            raise errors.lost(error, sent=sent, writes=writes) from error
        except asyncpg.PostgresError as error:
            raise errors.refused(error) from error
        except OSError as error:
            self._connection.terminate()
            raise errors.lost(error, sent=sent, writes=writes) from error
        except BaseException:
            # Cancelled in the middle: the answer may still come, and must meet nobody else's question.
            self._connection.terminate()
            raise
        finally:
            timer.cancel()

    async def sound(self, deadline: float) -> bool:
        """Whether a write may be sent: the server has not hung up, as far as can be known without asking it."""
        if self._arrivals.poll(0):
            # The loop has not yet read what came: most likely the server's goodbye.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self.closed or self._arrivals.poll(0):
                return False
        if self._loop.time() - self.idle_since > PROBE_AFTER_S:
            try:
                await self.run("SELECT 1", (), deadline, writes=False)
            except StoreUnavailable:
                return False
        return not self.closed

    def cut(self) -> None:
        self._connection.terminate()

    async def close(self, timeout_s: float) -> None:
        try:
            await self._connection.close(timeout=timeout_s)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            self._connection.terminate()


class Pool:
    """At most ``options.pool_size`` links, opened when needed; the one used last is used next."""

    def __init__(self, options: PostgresOptions, opened: Callable[[Connection], Awaitable[None]]) -> None:
        """``opened`` sees each new connection before its first use, and may refuse it with StoreUnavailable."""
        self._options = options
        self._opened = opened
        self._slots = asyncio.Semaphore(options.pool_size)
        self._idle: list[Link] = []
        self._busy: set[Link] = set()
        self._closed = False

    async def run(self, sql: str, *args: object, writes: bool) -> list[asyncpg.Record]:
        """One statement in a transaction of its own.

        A read whose old connection turns out to be dead is asked again on a new one. A write is sent once.
        Raises :class:`StoreUnavailable`, and ValueError for values that no Postgres can hold.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + self._options.timeout_s
        await self._take_slot(deadline)
        try:
            link = self._last_used()
            if link is not None and writes and not await link.sound(now + self._options.timeout_s / 2):
                self._discard_idle(link)
                link = None
            elif link is not None and not writes:
                try:
                    return await self._on(link, sql, args, now + self._options.timeout_s / 2, writes=False)
                except errors.Lost:
                    self._discard_idle(link)
                    link = None
            if link is None:
                link = await self._open(loop, deadline)
            return await self._on(link, sql, args, deadline, writes=writes)
        finally:
            self._slots.release()

    async def check_writable(self) -> None:
        """Raise :class:`StoreUnavailable` unless the server takes writes."""
        ((read_only,),) = await self.run(WRITABLE, writes=False)
        if read_only != "off":
            raise errors.ReadOnly(errors.STORE, "the server takes no writes", definite=True)

    async def _take_slot(self, deadline: float) -> None:
        if self._closed:
            raise StoreUnavailable(errors.STORE, "the store was closed", definite=True)
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                errors.STORE, f"all {self._options.pool_size} connections are busy", definite=True
            ) from None

    def _last_used(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if not link.closed:
                return link
        return None

    async def _open(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Link:
        connection = await connect(self._options, min(self._options.connect_timeout_s, deadline - loop.time()))
        timer = loop.call_at(deadline, connection.terminate)
        try:
            await self._opened(connection)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            connection.terminate()
            raise errors.unreachable(error) from error
        except BaseException:
            connection.terminate()
            raise
        finally:
            timer.cancel()
        return Link(connection, loop)

    async def _on(
        self, link: Link, sql: str, args: tuple[object, ...], deadline: float, *, writes: bool
    ) -> list[asyncpg.Record]:
        self._busy.add(link)
        try:
            return await link.run(sql, args, deadline, writes=writes)
        except errors.ReadOnly:
            # The server was demoted: what is open leads to the wrong one.
            self._discard_idle(link)
            raise
        finally:
            self._busy.discard(link)
            if not link.closed:
                self._give_back(link)

    def _give_back(self, link: Link) -> None:
        if self._closed:
            link.cut()
            return
        link.idle_since = now = asyncio.get_running_loop().time()
        self._idle.append(link)
        if len(self._idle) > 1 and now - self._idle[0].idle_since > CLOSE_AFTER_S:
            self._idle.pop(0).cut()

    def _discard_idle(self, link: Link) -> None:
        """One link was dead or led to the wrong server: so may the others that have been idle."""
        link.cut()
        while self._idle:
            self._idle.pop().cut()

    async def close(self) -> None:
        """Close all links; calls under way end with StoreUnavailable."""
        self._closed = True
        for link in tuple(self._busy):
            link.cut()
        while self._idle:
            await self._idle.pop().close(timeout_s=1.0)
