"""The state tier in PostgreSQL."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

import asyncpg

from agentmemory_sidecar.stores.postgres import statements as sql
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


class PostgresStateStore:
    """:class:`StateStore` in the schema ``agentmemory`` of one database. Connects at the first call."""

    def __init__(self, options: PostgresOptions) -> None:
        self.head = options.head
        self._pool = Pool(options, check)

    @property
    def pool(self) -> Pool:
        """For what lies in the same database."""
        return self._pool

    async def versions(self, conversation: Conversation) -> Versions:
        for turn, version in await self._pool.run(sql.VERSIONS, *self._at(conversation), writes=False):
            return Versions(turn, version)
        return ABSENT

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
        args: tuple[object, ...] = (*self._at(conversation), new.turn, new.version, body, pending, ttl_s, token)
        statement = sql.CREATE_WITH_ENTRIES if entries else sql.CREATE
        if expect != ABSENT:
            args = (*args, expect.turn, expect.version)
            statement = sql.UPDATE_WITH_ENTRIES if entries else sql.UPDATE
        if entries:
            args = (*args, *_columns(entries))
        done = await self._pool.run(statement, *args, writes=True)
        if not done:
            raise StaleWrite(f"the item is no longer at turn {expect.turn}, version {expect.version}")

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
        await self._pool.close()

    def _at(self, conversation: Conversation) -> tuple[str, str, str, str]:
        return conversation.tenant, conversation.session, conversation.agent, self.head


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
