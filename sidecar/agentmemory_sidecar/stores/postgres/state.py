"""The state tier in PostgreSQL."""

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from agentmemory_sidecar.stores.postgres import statements as sql
from agentmemory_sidecar.stores.postgres.gather import Gathered
from agentmemory_sidecar.stores.postgres.options import PostgresOptions
from agentmemory_sidecar.stores.postgres.pool import Pool
from agentmemory_sidecar.stores.postgres.schema import check
from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    AlreadyWritten,
    Conversation,
    Locked,
    Sessions,
    StaleWrite,
    Stored,
    Versions,
)
from agentmemory_sidecar.tasks import Tasks


class PostgresStateStore:
    """:class:`StateStore` in the schema ``agentmemory`` of one database. Connects at the first call."""

    def __init__(self, options: PostgresOptions) -> None:
        self.head = options.head
        self._pool = Pool(options, check)
        self._tasks = Tasks()
        self._reads = Gathered(self._tasks, "postgres versions", self._versions)
        self._writes = Gathered(self._tasks, "postgres write", self._update)

    @property
    def pool(self) -> Pool:
        """For what lies in the same database."""
        return self._pool

    def versions(self, conversation: Conversation) -> asyncio.Future[Versions]:
        return self._reads.ask(conversation)

    async def _versions(self, asked: Sequence[Conversation]) -> list[Versions]:
        if len(asked) == 1:
            rows = await self._pool.run(sql.VERSIONS, *self._at(asked[0]), writes=False)
            return [Versions(*row) for row in rows] or [ABSENT]
        addresses = _addresses(asked)
        rows = await self._pool.run(sql.VERSIONS_OF_SEVERAL, self.head, *addresses, writes=False)
        found = {at: Versions(turn, version) for at, turn, version in rows}
        return [found.get(at, ABSENT) for at in range(1, len(asked) + 1)]

    async def read(self, conversation: Conversation) -> Stored:
        versions, body = ABSENT, b""
        ledger: dict[str, bytes] = {}
        for key, turn, version, data in await self._pool.run(sql.READ, *self._at(conversation), writes=False):
            if key is None:
                versions, body = Versions(turn, version), data
            else:
                ledger[key] = data
        return Stored(versions, body, ledger)

    async def write(
        self,
        conversation: Conversation,
        body: bytes,
        *,
        expect: Versions,
        new: Versions,
        pending: bool,
        token: str = "",
        ttl_s: int | None = None,
        entries: Mapping[str, bytes] | None = None,
    ) -> None:
        if not body:
            raise ValueError("postgres: an item's body must not be empty: that is how an item only locked looks")
        write = _Write(conversation, body, expect, new, pending, token, ttl_s, entries or {})
        if not (await self._writes.ask(write) if expect != ABSENT else await self._write_one(write)):
            raise StaleWrite(f"the item is no longer at turn {expect.turn}, version {expect.version}")

    async def _write_one(self, write: "_Write") -> bool:
        args: tuple[object, ...] = (
            *self._at(write.conversation), write.new.turn, write.new.version, write.body, write.pending, write.ttl_s,
            write.token,
        )  # fmt: skip
        statement = sql.CREATE_WITH_ENTRIES if write.entries else sql.CREATE
        if write.expect != ABSENT:
            args = (*args, write.expect.turn, write.expect.version)
            statement = sql.UPDATE_WITH_ENTRIES if write.entries else sql.UPDATE
        if write.entries:
            args = (*args, *_columns(write.entries))
        return bool(await self._pool.run(statement, *args, writes=True))

    async def _update(self, writes: Sequence["_Write"]) -> list[bool]:
        """Whether each was done. In the order of their addresses, so that two such statements seldom wait crosswise."""
        if len(writes) == 1:
            return [await self._write_one(writes[0])]
        ordered = sorted(writes, key=lambda write: self._at(write.conversation))
        entries = [(*self._at(write.conversation)[:3], *pair) for write in ordered for pair in write.entries.items()]
        rows = await self._pool.run(
            sql.UPDATE_SEVERAL,
            self.head,
            *_addresses([write.conversation for write in ordered]),
            [write.new.turn for write in ordered],
            [write.new.version for write in ordered],
            [write.body for write in ordered],
            [write.pending for write in ordered],
            [write.ttl_s for write in ordered],
            [write.token for write in ordered],
            [write.expect.turn for write in ordered],
            [write.expect.version for write in ordered],
            *([row[column] for row in entries] for column in range(5)),
            writes=True,
        )
        done = {id(ordered[at - 1]) for (at,) in rows}
        return [id(write) in done for write in writes]

    async def add_entries(self, conversation: Conversation, entries: Mapping[str, bytes]) -> Mapping[str, bytes]:
        if not entries:
            return {}
        at = self._at(conversation)
        added = await self._pool.run(sql.ADD_ENTRIES, *at, *_columns(entries), writes=True)
        standing = {key: entries[key] for (key,) in added}
        if len(standing) < len(entries):
            # A statement of its own: one that lost the race does not see the winner's rows.
            others = [key for key in entries if key not in standing]
            standing |= _entries(await self._pool.run(sql.ENTRIES, *at, others, writes=False))
        return standing

    async def lock(
        self, conversation: Conversation, token: str, ttl_s: float, entries: Mapping[str, bytes] | None = None
    ) -> Stored:
        at = self._at(conversation)
        claimed = await self._pool.run(sql.LOCK, *at, token, ttl_s, *_columns(entries or {}), writes=True)
        if not claimed:
            holders = await self._pool.run(sql.HOLDER, *at, writes=False)
            raise Locked(*(holders[0] if holders else ("", 0.0)))
        turn, version, body = claimed[0]
        # Read after the lock, not with it: the lock takes the newest item, a statement's snapshot may be older.
        ledger = _entries(await self._pool.run(sql.LEDGER, *at, writes=False))
        return Stored(Versions(turn, version), body, ledger)

    async def unlock(self, conversation: Conversation, token: str) -> None:
        await self._pool.run(sql.UNLOCK, *self._at(conversation), token, writes=True)

    async def put_chunks(self, conversation: Conversation, name: str, data: bytes) -> None:
        # In one piece: a row here may hold up to 1 GB, and is cut into pages by the server.
        at = self._at(conversation)
        if not await self._pool.run(sql.PUT_CHUNK, *at, name, data, writes=True):
            for (digest,) in await self._pool.run(sql.CHUNK_DIGEST, *at, name, writes=False):
                if digest != hashlib.sha256(data).digest():
                    raise AlreadyWritten("a chunk of this name holds other bytes")

    async def get_chunks(self, conversation: Conversation, name: str) -> bytes | None:
        rows = await self._pool.run(sql.GET_CHUNK, *self._at(conversation), name, writes=False)
        return rows[0][0] if rows else None

    async def delete_chunks(self, conversation: Conversation, name: str) -> None:
        await self._pool.run(sql.DELETE_CHUNK, *self._at(conversation), name, writes=True)

    async def index(self, tenant: str, subject: str, session: str) -> None:
        await self._pool.run(sql.INDEX, tenant, subject, session, writes=True)

    async def sessions(self, tenant: str, *, subject: str = "", after: str = "", limit: int = 100) -> Sessions:
        last_subject, last_session = _cursor(after)
        found = await self._pool.run(sql.SESSIONS, tenant, subject, last_subject, last_session, limit + 1, writes=False)
        rows = [(row[0], row[1]) for row in found[:limit]]
        return Sessions(rows, json.dumps(rows[-1]) if len(found) > limit else "")

    async def agents(self, tenant: str, session: str) -> Sequence[str]:
        return [agent for (agent,) in await self._pool.run(sql.AGENTS, tenant, session, self.head, writes=False)]

    async def pending(self, tenant: str, limit: int = 100) -> Sequence[Conversation]:
        rows = await self._pool.run(sql.PENDING, tenant, self.head, limit, writes=False)
        return [Conversation(tenant, session, agent) for session, agent in rows]

    async def ping(self) -> None:
        await self._pool.check_writable()

    async def close(self) -> None:
        self._reads.close()
        self._writes.close()
        await self._pool.close()
        await self._tasks.close()

    def _at(self, conversation: Conversation) -> tuple[str, str, str, str]:
        return conversation.tenant, conversation.session, conversation.agent, self.head


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """One conditional write: the arguments of ``write``."""

    conversation: Conversation
    body: bytes
    expect: Versions
    new: Versions
    pending: bool
    token: str
    ttl_s: int | None
    entries: Mapping[str, bytes]


def _addresses(asked: Sequence[Conversation]) -> tuple[list[str], list[str], list[str]]:
    return [one.tenant for one in asked], [one.session for one in asked], [one.agent for one in asked]


def _columns(entries: Mapping[str, bytes]) -> tuple[list[str], list[bytes]]:
    """Keys and entries, in the order of the keys: two writers of the same ones then wait, and never deadlock."""
    keys = sorted(entries)
    return keys, [entries[key] for key in keys]


def _entries(rows: Iterable[asyncpg.Record]) -> dict[str, bytes]:
    return {row[0]: row[1] for row in rows}


def _cursor(after: str) -> tuple[str, str]:
    """The last row of the page before. Raises ValueError for what :attr:`Sessions.next` never was."""
    if not after:
        return "", ""
    try:
        match json.loads(after):
            case [str(subject), str(session)]:
                return subject, session
    except ValueError:
        pass
    raise ValueError("after: not the `next` of a page of sessions")
