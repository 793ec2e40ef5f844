"""The hot tier in Redis, Valkey or Redis Cluster: lock, hot copy and ledger cache, one script for each operation."""

import asyncio
import contextlib
import functools
import hashlib
import importlib.resources
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from redis.asyncio import ConnectionPool, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from agentmemory_sidecar.stores.protocols import (
    ROOT,
    Begun,
    Busy,
    Claim,
    Conversation,
    HotCopy,
    StoreUnavailable,
    Versions,
)
from agentmemory_sidecar.stores.redis_links import (
    KEEPALIVE,
    REFRESH_PAUSE_S,
    Closed,
    ClusterRoutes,
    Command,
    Link,
    NotSent,
    Overdue,
    Refused,
    Routes,
    StandaloneRoutes,
)
from agentmemory_sidecar.tasks import Tasks

STORE = "redis"
MOST_NOTES = 100
ACKNOWLEDGE_EVERY_S = 0.25
"""How often acknowledgements are written. One that the conversation's next step has overtaken never is."""
RENEWAL_SLACK_MS = 5_000

DAY_MS = 24 * 3600 * 1000
LEDGER_TTL_MS = NOTES_TTL_MS = MARK_TTL_MS = DAY_MS
"""Lifetimes of what is kept between steps; the lock's and the acknowledgement's come with each call, the hot copy's
from the options. Nothing else is ever written."""

AGAIN = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"})
"""Error replies of a cluster on the move: nothing was done, and asking again helps."""

NO_EFFECT = AGAIN | {"READONLY", "OOM", "MISCONF", "LOADING", "BUSY", "NOREPLICAS", "NOSCRIPT", "CROSSSLOT"}
"""Error replies that come before a command's, or a script's, first write."""


ACL_RULE = (
    "~*:sess:* +eval +evalsha +info +get +set +del +exists +pttl +pexpire +hset +hsetnx +hget +hmget +hgetall +hlen "
    "+hdel +rpush +ltrim +lrange +cluster|slots +asking"
)
"""Keys and commands that the user of the sidecar needs, the last two in a cluster only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """How to reach Redis."""

    urls: tuple[str, ...] = field(repr=False)
    """``redis://[user[:password]@]host[:port]``, ``rediss://…`` for TLS, or ``unix://[:password]@/path``. One server,
    or any nodes of a cluster."""
    cluster: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    """Taken before those in the URL."""
    tls_ca_file: str = ""
    """Certificates to trust; empty: the system's."""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    """The client's own certificate, where the server asks for one."""
    tls_check_hostname: bool = True
    timeout_s: float = 2.0
    """Deadline of every call, connecting included."""
    hot_ttl_s: float = 900
    """Lifetime of the hot copy after its last write."""


@dataclass(frozen=True, slots=True)
class Script:
    sha: str
    source: str


@functools.cache
def script(name: str) -> Script:
    """A script of ``lua/`` behind what all share, with the hash that Redis calls it by."""
    folder = importlib.resources.files("agentmemory_sidecar.stores") / "lua"
    source = (folder / "_common.lua").read_text() + (folder / f"{name}.lua").read_text()
    return Script(hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), source)


@functools.lru_cache(maxsize=512)
def keys(conversation: Conversation) -> tuple[bytes, ...]:
    """A conversation's keys, in the order the scripts know them: lock, hot, ledger, ack, notes, mark."""
    tag = f"{quote(conversation.tenant, safe='')}/{quote(conversation.session, safe='')}"
    agent = "" if conversation.agent == ROOT else f":agent:{quote(conversation.agent, safe='')}"
    kinds = ("lock", "hot", "ledger", "ack", "notes", "mark")
    return tuple(f"{kind}:sess:{{{tag}}}{agent}".encode() for kind in kinds)


class Credentials(CredentialProvider):
    """What new connections authenticate with; changed in place when a password is rotated."""

    def __init__(self, username: str, password: str) -> None:
        self.username, self.password = username, password

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str] | tuple[()]:  # type: ignore[override]
        return self.get_credentials()

    def get_credentials(self) -> tuple[str] | tuple[str, str] | tuple[()]:  # type: ignore[override]
        if not self.password:
            return ()
        return (self.username, self.password) if self.username else (self.password,)


class RedisHotStore:
    """The hot tier in Redis 7 or Valkey, standalone or cluster.

    An ACL user needs the rule :data:`ACL_RULE`, on every node.

    No call is repeated once it was sent; one that a node refused or redirected before doing anything is sent again,
    within the deadline. While a cluster moves a slot, its scripts are refused (TRYAGAIN) until all keys have moved.

    Make it inside a running event loop; :meth:`close` it at the end.
    """

    def __init__(self, options: RedisOptions) -> None:
        self._timeout_s = options.timeout_s
        self._hot_ttl_ms = int(options.hot_ttl_s * 1000)
        self._tasks = Tasks()
        self._routes, self._credentials = _routes(options, self._tasks)
        self._acknowledged: dict[bytes, tuple[str, int]] = {}
        self._flushing = False

    def update_credentials(self, username: str, password: str) -> None:
        """Use these for every new connection; open ones stay as they are, authenticated."""
        self._credentials.username, self._credentials.password = username, password

    # ------------------------------------------------------------------------------------------------------ operations

    async def begin(self, conversation: Conversation, claim: Claim) -> Begun | Busy:
        late_ms = claim.ttl_ms - claim.renew_ms - RENEWAL_SLACK_MS
        reply = await self._run(
            "begin",
            keys(conversation),
            claim.token,
            claim.request,
            claim.extends,
            claim.ttl_ms,
            late_ms,
            claim.known,
            claim.known_entries,
        )
        if len(reply) == 2:
            return Busy(reply[0].decode(), max(reply[1], 0))
        waiting = self._acknowledged.get(keys(conversation)[3])
        return _begun(reply, waiting[0] if waiting else "")

    async def peek(self, conversation: Conversation, *, compaction: bool = False) -> Begun:
        return _begun(await self._run("peek", keys(conversation), MARK_TTL_MS if compaction else ""))

    async def freeze(self, conversation: Conversation, key: str, entry: bytes) -> bytes:
        standing: bytes = await self._run("freeze", keys(conversation), key, entry, LEDGER_TTL_MS)
        return standing

    async def commit(
        self,
        conversation: Conversation,
        token: str,
        copy: HotCopy,
        entries: Mapping[str, bytes],
        reserve: str = "",
        noted: int = 0,
    ) -> bool:
        self._acknowledged.pop(keys(conversation)[3], None)  # of the step before: nobody asks for it any more
        added = [part for pair in entries.items() for part in pair]
        versions = copy.versions
        done: int = await self._run(
            "commit", keys(conversation), token, versions.turn, versions.version, copy.entries, copy.body,
            self._hot_ttl_ms, LEDGER_TTL_MS, reserve, noted, *added,
        )  # fmt: skip
        return done == 1

    async def release(self, conversation: Conversation, token: str, *, intact: bool, note: bytes = b"") -> bool:
        done: int = await self._run(
            "release", keys(conversation), token, "1" if intact else "", note, MOST_NOTES, NOTES_TTL_MS
        )
        return done == 1

    async def renew(self, conversation: Conversation, token: str, ttl_ms: int) -> bool:
        done: int = await self._run("renew", keys(conversation), token, ttl_ms)
        return done == 1

    async def note(self, conversation: Conversation, note: bytes) -> None:
        await self._run("note", keys(conversation), note, MOST_NOTES, NOTES_TTL_MS)

    async def drop(self, conversation: Conversation) -> None:
        hot = keys(conversation)[1]
        await self._call(hot, ("DEL", hot))

    async def ping(self) -> None:
        await self._call(b"ping:sess:{}", ("SET", b"ping:sess:{}", b"", "PX", 1000))

    async def acknowledge(self, conversation: Conversation, step: str, ttl_ms: int) -> None:
        # Collected, and written together a moment later: the reply has gone out, nobody waits for this.
        self._acknowledged[keys(conversation)[3]] = (step, ttl_ms)
        if not self._flushing:
            self._flushing = True
            self._tasks.start(self._flush(), "redis acknowledge")

    async def _flush(self) -> None:
        await asyncio.sleep(ACKNOWLEDGE_EVERY_S)
        self._flushing = False
        acknowledged, self._acknowledged = self._acknowledged, {}
        for key, (step, ttl_ms) in acknowledged.items():
            # All are written before any is answered, so that they travel together; what fails was a best effort.
            command = ("SET", key, step, "PX", ttl_ms)
            link = self._routes.ready(key)
            if link is None or link.ask(command) is None:
                with contextlib.suppress(StoreUnavailable):
                    await self._call(key, command)

    async def close(self) -> None:
        if self._acknowledged:
            await self._tasks.drain(self._timeout_s)
        await self._tasks.close()  # first: a connection that is being opened would outlive the routes
        await self._routes.close()

    # ----------------------------------------------------------------------------------------------------------- calls

    def _run(self, name: str, keys: tuple[bytes, ...], *args: str | bytes | int) -> Coroutine[Any, Any, Any]:
        code = script(name)
        return self._call(keys[0], ("EVALSHA", code.sha, len(keys), *keys, *args), code.source)

    async def _call(self, key: bytes, command: Command, source: str = "") -> Any:
        """Send a command to the key's primary and return its reply. Raises :class:`StoreUnavailable`.

        :param source: of the script, for a node that does not have it yet.
        """
        attempt = _Attempt()
        reply: Any = None
        if (link := self._routes.ready(key)) is not None and (asked := link.ask(command)) is not None:
            reply = await asked
            if not isinstance(reply, Exception):
                return reply
            if isinstance(reply, Overdue):
                self._routes.changed(link)
                raise StoreUnavailable(STORE, f"no answer within {self._timeout_s:g} s", definite=False)
            attempt.link = link
        return await self._repeat(attempt, reply, key, command, source)

    async def _repeat(self, attempt: "_Attempt", reply: Any, key: bytes, command: Command, source: str) -> Any:
        """Until it is answered: connect, follow redirections, bring the script. ``reply`` is the error that came already,
        None where nothing was sent."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        if reply is None:
                            reply = await attempt.make(await self._routes.link(key), command)
                        if isinstance(reply, Refused) and reply.code == "ASK":
                            # The slot is on its way to another node, and this key is there already.
                            link = await self._routes.link_to(*reply.address)
                            reply = await attempt.make(link, ("ASKING",), command)
                    except Closed:
                        reply = None
                        continue
                    except NotSent as error:
                        reply = None
                        attempt.reason = str(error)
                        if not self._routes.changed(attempt.link):
                            raise StoreUnavailable(STORE, attempt.reason, definite=True) from error
                        await asyncio.sleep(REFRESH_PAUSE_S)
                        continue
                    if not isinstance(reply, Exception):
                        return reply
                    if isinstance(reply, Refused) and reply.code == "NOSCRIPT" and source:
                        command, source = ("EVAL", source, *command[2:]), ""
                    else:
                        await self._refused(attempt, reply)
                    reply = None
        except TimeoutError:
            if attempt.sent and attempt.link is not None:
                attempt.link.retire()
            self._routes.changed(attempt.link if attempt.sent else None)
            reason = f"no answer within {self._timeout_s:g} s" + (f"; {attempt.reason}" if attempt.reason else "")
            raise StoreUnavailable(STORE, reason, definite=not attempt.sent) from None

    async def _refused(self, attempt: "_Attempt", error: Exception) -> None:
        """Return when the call should be made again: the error proves that it had no effect, and it may pass."""
        code = error.code if isinstance(error, Refused) else ""
        # A refusal's text may quote a key or an argument; those about rights name only users and commands.
        about_rights = str(error).startswith(("NOPERM", "ERR ACL failure", "ERR The user executing the script"))
        attempt.reason = str(error) if not code or about_rights else code
        if code in AGAIN and self._routes.changed(attempt.link):
            if code != "MOVED":
                await asyncio.sleep(REFRESH_PAUSE_S)
            return
        if code in NO_EFFECT:
            self._routes.changed(attempt.link)
        raise StoreUnavailable(STORE, attempt.reason, definite=code in NO_EFFECT) from error


class _Attempt:
    """How far a call has come, for the one who must say whether it may have had an effect."""

    __slots__ = ("link", "reason", "sent")

    def __init__(self) -> None:
        self.link: Link | None = None
        self.sent = False
        self.reason = ""

    async def make(self, link: Link, *commands: Command) -> Any:
        """Send and wait for the last command's reply. Raises :class:`NotSent`."""
        self.link = link
        await link.settled()
        self.sent = True
        try:
            reply = await link.send(*commands)
        except NotSent:
            self.sent = False
            raise
        self.sent = False  # answered: what may come next starts anew
        return reply


def _begun(reply: list[Any], acknowledged_here: str = "") -> Begun:
    took_over, copy, ledger, notes, acknowledged, marked, same = reply
    return Begun(
        copy=HotCopy(Versions(int(copy[0]), int(copy[1])), copy[3], int(copy[2])) if copy else None,
        ledger={ledger[i].decode(): ledger[i + 1] for i in range(0, len(ledger), 2)},
        notes=notes,
        acknowledged=acknowledged_here or (acknowledged.decode() if acknowledged else ""),
        compacted=bool(marked),
        took_over=bool(took_over),
        same=bool(same),
    )


def _routes(options: RedisOptions, tasks: Tasks) -> tuple[Routes, Credentials]:
    if not options.urls:
        raise ValueError("redis: name at least one URL, such as redis://localhost:6379")
    parsed: list[dict[str, Any]] = [{**parse_url(url)} for url in options.urls]
    credentials = Credentials(
        options.username or str(parsed[0].get("username") or ""),
        options.password or str(parsed[0].get("password") or ""),
    )
    tls = any(each.get("connection_class") is SSLConnection for each in parsed)
    common: dict[str, Any] = {
        "credential_provider": credentials,
        "protocol": 2,
        "socket_connect_timeout": options.timeout_s,
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
    }
    if not any("path" in each for each in parsed):
        common |= {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
    if tls:
        common |= {
            "ssl_ca_certs": options.tls_ca_file or None,
            "ssl_certfile": options.tls_cert_file or None,
            "ssl_keyfile": options.tls_key_file or None,
            "ssl_check_hostname": options.tls_check_hostname,
        }
    if not options.cluster:
        if len(parsed) > 1:
            raise ValueError("redis: several URLs were given; set `cluster`, or name one")
        where = {name: value for name, value in parsed[0].items() if name not in ("username", "password")}
        return StandaloneRoutes(ConnectionPool(**common, **where), tasks, options.timeout_s), credentials
    if any("path" in each for each in parsed):
        raise ValueError("redis: a cluster cannot be reached by a unix socket; give redis:// or rediss:// URLs")
    seeds = [ClusterNode(str(each.get("host", "localhost")), int(each.get("port", 6379))) for each in parsed]
    cluster = RedisCluster(
        startup_nodes=seeds,
        require_full_coverage=False,
        dynamic_startup_nodes=False,
        ssl=tls,
        socket_timeout=options.timeout_s,
        **common,
    )
    return ClusterRoutes(cluster, tasks, options.timeout_s), credentials
