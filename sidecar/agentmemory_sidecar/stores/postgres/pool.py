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


class Watch:
    """Cuts the links that are busy at their deadline.

    One timer for all of them, with a grain of a twentieth of the time-out: a timer for each statement would cost more
    than everything else that is done here for it. A link is cut, and its statement not cancelled: to cancel takes
    another connection, and waiting. The server's own ``statement_timeout`` ends what still runs there.
    """

    def __init__(self, grain_s: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.busy: set[Link] = set()
        self._grain_s = grain_s
        self._timer: asyncio.TimerHandle | None = None

    def add(self, link: "Link") -> None:
        self.busy.add(link)
        if self._timer is None:
            self._timer = self.loop.call_later(self._grain_s, self._look)

    def _look(self) -> None:
        self._timer = None
        soon = self.loop.time() + self._grain_s
        for link in [link for link in self.busy if link.deadline < soon]:
            link.cut()
        if self.busy:
            self._timer = self.loop.call_later(self._grain_s, self._look)

    def close(self) -> None:
        for link in tuple(self.busy):
            link.cut()
        if self._timer is not None:
            self._timer.cancel()


class Link:
    """One connection with its prepared statements."""

    def __init__(self, connection: Connection, watch: Watch) -> None:
        self._connection = connection
        self._prepared: dict[str, Any] = {}
        self.watch = watch
        self._arrivals = select.poll()
        self.idle_since = self.deadline = watch.loop.time()
        # asyncpg offers no other way to its socket. Only asked whether something came in while nobody waited for it.
        socket = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        self._arrivals.register(socket.fileno(), select.POLLIN)

    @property
    def closed(self) -> bool:
        return self._connection.is_closed()

    async def run(self, sql: str, args: tuple[object, ...], deadline: float, *, writes: bool) -> list[asyncpg.Record]:
        """One statement. Raises what ``errors.failed`` makes of a failure; the link is closed then, unless a value was
        to blame: failures are rare, and a new connection leaves nothing to wonder about (say, a plan out of date)."""
        self.deadline = deadline
        self.watch.add(self)
        sent = False
        try:
            statement = self._prepared.get(sql)
            if statement is None:
                statement = self._prepared[sql] = await self._connection.prepare(sql, name=f"am{len(self._prepared)}")
            sent = True
            rows: list[asyncpg.Record] = await statement.fetch(*args)
            return rows
        except BaseException as error:
            failure: Exception | None = errors.failed(error, in_doubt=sent and writes)
            if isinstance(error, AttributeError) and self.closed:
                # Cut at its deadline between the round trips in which asyncpg learns of types: it has no protocol then.
                failure = errors.Lost(errors.STORE, "no answer: cut at its deadline", definite=not (sent and writes))
            if not isinstance(failure, ValueError):
                # Also when cancelled in the middle: the answer may still come, and must meet nobody else's question.
                self.cut()
            if failure is None:
                raise
            raise failure from None  # the server's words may quote what a user wrote
        finally:
            self.watch.busy.discard(self)

    def fresh(self, now: float) -> bool:
        """Whether the link was used so lately, and has been so quiet since, that nobody need ask more."""
        return now - self.idle_since <= PROBE_AFTER_S and not self._arrivals.poll(0)

    async def sound(self, deadline: float) -> bool:
        """Whether a write may be sent: the server has not hung up, as far as can be known. Cut if not."""
        if self._arrivals.poll(0):
            # Something came that the loop has not yet read, most likely the server's goodbye.
            self.cut()
        elif self.watch.loop.time() - self.idle_since > PROBE_AFTER_S:
            try:
                await self.run("SELECT 1", (), deadline, writes=False)
            except errors.Lost:
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
        self._watch: Watch | None = None
        self._closed = False

    async def run(self, sql: str, *args: object, writes: bool) -> list[asyncpg.Record]:
        """One statement in a transaction of its own.

        A read whose old connection turns out to be dead is asked again on a new one. A write is sent once.
        Raises :class:`StoreUnavailable`, and ValueError for values that no Postgres can hold.
        """
        if self._watch is None:
            self._watch = Watch(self._options.timeout_s / 20)
        now = self._watch.loop.time()
        deadline = now + self._options.timeout_s
        await self._take_slot(deadline)
        try:
            link = self._last_used()
            if link is not None and writes:
                if not link.fresh(now) and not await link.sound(now + self._options.timeout_s / 2):
                    self._discard_idle(link)
                    link = None
            elif link is not None:
                try:
                    return await self._on(link, sql, args, now + self._options.timeout_s / 2, writes=False)
                except errors.Lost:
                    self._discard_idle(link)
                    link = None
            if link is None:
                link = await self._open(self._watch, deadline)
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
            raise self._was_closed()
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

    @staticmethod
    def _was_closed() -> StoreUnavailable:
        return StoreUnavailable(errors.STORE, "the store was closed", definite=True)

    def _last_used(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if not link.closed:
                return link
        return None

    async def _open(self, watch: Watch, deadline: float) -> Link:
        loop = watch.loop
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
        if self._closed:
            connection.terminate()
            raise self._was_closed()
        return Link(connection, watch)

    async def _on(
        self, link: Link, sql: str, args: tuple[object, ...], deadline: float, *, writes: bool
    ) -> list[asyncpg.Record]:
        try:
            return await link.run(sql, args, deadline, writes=writes)
        except errors.ReadOnly:
            # The server was demoted: what is open leads to the wrong one.
            self._discard_idle(link)
            raise
        finally:
            if not link.closed:
                self._give_back(link)

    def _give_back(self, link: Link) -> None:
        if self._closed:
            link.cut()
            return
        link.idle_since = now = link.watch.loop.time()
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
        if self._watch is not None:
            self._watch.close()
        while self._idle:
            await self._idle.pop().close(timeout_s=1.0)
