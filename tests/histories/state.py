"""The state tier and the sealing keys on a region's replica of the model table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    ROOT,
    AlreadyWritten,
    Conversation,
    Locked,
    OtherHead,
    Sessions,
    StaleWrite,
    Stored,
    StoreUnavailable,
    Versions,
    WrappedKey,
)
from tests.histories.links import Link
from tests.histories.table import FOREVER, HeadRow, Key, Table

T = TypeVar("T")


class ModelStateStore:
    """:class:`StateStore` on a region's replica. ``clock`` is the sidecar's own, as with DynamoDB: lifetimes and item locks
    go by it."""

    def __init__(
        self,
        table: Table,
        region: str,
        clock: Callable[[], float],
        *,
        head: str | None = None,
        link: Link | None = None,
        name: str = "state",
    ) -> None:
        self.head = region if head is None else head
        self._table, self._region, self._clock = table, region, clock
        self._replica = table.replicas[region]
        self._link, self._name = link or Link(), name
        self._closed = False

    async def versions(self, conversation: Conversation) -> Versions:
        def effect() -> Versions:
            return self._seen(conversation, self._versions(conversation))

        return await self._call("versions", effect)

    async def read(self, conversation: Conversation) -> Stored:
        def effect() -> Stored:
            found = self._stored(conversation)
            self._seen(conversation, found.versions)
            return found

        return await self._call("read", effect)

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
        if entries:
            await self.add_entries(conversation, entries)

        def effect() -> None:
            now, row = self._clock(), self._row(conversation)
            alive = row is not None and row.expires > now
            if expect == ABSENT:
                fits = row is None or not alive or (row.body is None and row.versions != new)
            else:
                fits = row is not None and alive and row.versions == expect
            if not fits:
                raise StaleWrite(f"model: expected {expect}")
            lock = ("", 0.0)
            if row is not None and row.token not in ("", token):
                lock = (row.token, row.until)
            expires = FOREVER if ttl_s is None else now + ttl_s
            self._put(conversation, HeadRow(new.turn, new.version, body, pending, expires, *lock))
            if self._table.watch is not None:
                self._table.watch.wrote(self.head, conversation, expect, new, body)

        await self._call("write", effect)

    async def add_entries(self, conversation: Conversation, entries: Mapping[str, bytes]) -> Mapping[str, bytes]:
        # One request for each, as the real store has it: some may be stored where the rest is not.
        standing = {}
        for name, entry in entries.items():
            standing[name] = await self._call("entry", partial(self._add, conversation, name, entry))
        return standing

    def _add(self, conversation: Conversation, name: str, entry: bytes) -> bytes:
        key = ("ledger", conversation.tenant, conversation.session, conversation.agent, name)
        standing: bytes | None = self._replica.get(key)
        if standing is None:
            self._table.write(self._region, key, entry)
            return entry
        return standing

    async def lock(
        self, conversation: Conversation, token: str, ttl_s: float, entries: Mapping[str, bytes] | None = None
    ) -> Stored:
        def take() -> None:
            now, row = self._clock(), self._row(conversation)
            if row is not None and row.token not in ("", token) and row.until > now:
                raise Locked(row.token, row.until - now)
            if row is not None and row.expires <= now:
                row = HeadRow(0, row.version)
            row = row or HeadRow()
            self._put(conversation, replace(row, version=row.version + 1, token=token, until=now + ttl_s))

        def effect() -> Stored:
            found = self._stored(conversation)
            self._seen(conversation, found.versions)
            return found

        await self._call("lock", take)
        await self.add_entries(conversation, entries or {})
        return await self._call("locked", effect)

    async def unlock(self, conversation: Conversation, token: str) -> None:
        def effect() -> None:
            row = self._row(conversation)
            if row is not None and row.token == token:
                self._put(conversation, replace(row, token="", until=0.0))

        await self._call("unlock", effect)

    async def put_chunks(self, conversation: Conversation, name: str, data: bytes) -> None:
        key = ("chunk", conversation.tenant, conversation.session, conversation.agent, name)

        def effect() -> None:
            known = self._replica.get(key)
            if known not in (None, data):
                raise AlreadyWritten("a chunk of this name holds other bytes")
            if known is None:
                self._table.write(self._region, key, data)

        await self._call("put_chunks", effect)

    async def get_chunks(self, conversation: Conversation, name: str) -> bytes | None:
        key = ("chunk", conversation.tenant, conversation.session, conversation.agent, name)
        found: bytes | None = await self._call("get_chunks", lambda: self._replica.get(key))
        return found

    async def delete_chunks(self, conversation: Conversation, name: str) -> None:
        key = ("chunk", conversation.tenant, conversation.session, conversation.agent, name)

        def effect() -> None:
            if self._replica.get(key) is not None:
                self._table.write(self._region, key, None)

        await self._call("delete_chunks", effect)

    async def index(self, tenant: str, subject: str, session: str) -> None:
        await self._call("index", lambda: self._table.write(self._region, ("index", tenant, subject, session), True))

    async def sessions(self, tenant: str, *, subject: str = "", after: str = "", limit: int = 100) -> Sessions:
        def effect() -> Sessions:
            rows = sorted(
                (key[2], key[3])
                for start, keys in self._replica.groups.items()
                if start[:2] == ("index", tenant) and (not subject or start[2] == subject)
                for key in keys
            )
            start = int(after or 0)
            following = str(start + limit) if len(rows) > start + limit else ""
            return Sessions(rows[start : start + limit], following)

        return await self._call("sessions", effect)

    async def agents(self, tenant: str, session: str) -> Sequence[str]:
        def effect() -> Sequence[str]:
            now = self._clock()
            found = {
                start[3]
                for start in self._replica.groups
                if start[:3] == ("head", tenant, session)
                and any(row.body is not None and row.expires > now for _, row in self._replica.group(*start))
            }
            return sorted(found, key=lambda agent: (agent != ROOT, agent))

        return await self._call("agents", effect)

    async def pending(self, tenant: str, limit: int = 100) -> Sequence[Conversation]:
        def effect() -> Sequence[Conversation]:
            now, found = self._clock(), []
            for start in sorted(self._replica.groups):
                if start[:2] == ("head", tenant):
                    row = self._replica.get((*start, self.head))
                    if row is not None and row.pending and row.expires > now:
                        found.append(Conversation(*start[1:]))
            return found[:limit]

        return await self._call("pending", effect)

    async def ping(self) -> None:
        await self._call("ping", lambda: None)

    async def close(self) -> None:
        self._closed = True

    # ---------------------------------------------------------------------------------------------------------- inside

    async def _call(self, name: str, effect: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailable(self._name, "closed", definite=True)
        return await self._link.call(f"{self._name}.{name}", effect)

    def _seen(self, conversation: Conversation, versions: Versions) -> Versions:
        if self._table.watch is not None:
            self._table.watch.looks(self._region, conversation)
            self._table.watch.saw(self.head, conversation, versions)
        return versions

    def _key(self, conversation: Conversation) -> Key:
        return ("head", conversation.tenant, conversation.session, conversation.agent, self.head)

    def _row(self, conversation: Conversation) -> HeadRow | None:
        row: HeadRow | None = self._replica.get(self._key(conversation))
        return row

    def _put(self, conversation: Conversation, row: HeadRow) -> None:
        self._table.write(self._region, self._key(conversation), row)

    def _heads(self, conversation: Conversation) -> dict[str, HeadRow]:
        now = self._clock()
        found = self._replica.group("head", conversation.tenant, conversation.session, conversation.agent)
        return {name: row for name, row in found if row.expires > now}

    def _versions(self, conversation: Conversation) -> Versions:
        heads = self._heads(conversation)
        own = heads.pop(self.head, None)
        others = tuple((name, row.version) for name, row in heads.items() if row.body is not None)
        return Versions(own.turn, own.version, others) if own is not None else Versions(0, 0, others)

    def _stored(self, conversation: Conversation) -> Stored:
        heads = self._heads(conversation)
        own = heads.get(self.head)
        others = tuple(
            OtherHead(name, row.version, row.body)
            for name, row in heads.items()
            if name != self.head and row.body is not None
        )
        entries = self._replica.group("ledger", conversation.tenant, conversation.session, conversation.agent)
        body = own.body if own is not None and own.body is not None else b""
        return Stored(self._versions(conversation), body, dict(entries), others)


class ModelKeyShelf:
    """:class:`KeyShelf` in the same table."""

    def __init__(self, table: Table, region: str, link: Link | None = None, *, name: str = "state") -> None:
        self._table, self._region, self._link, self._name = table, region, link or Link(), name
        self._replica = table.replicas[region]

    async def keys(self, tenant: str, subject: str) -> Sequence[WrappedKey]:
        def effect() -> Sequence[WrappedKey]:
            return [WrappedKey(int(name), data) for name, data in self._replica.group("key", tenant, subject)]

        return await self._link.call(f"{self._name}.keys", effect)

    async def put(self, tenant: str, subject: str, key: WrappedKey) -> WrappedKey:
        name = ("key", tenant, subject, f"{key.generation:010}")

        def effect() -> WrappedKey:
            standing = self._replica.get(name)
            if standing is not None:
                return WrappedKey(key.generation, standing)
            self._table.write(self._region, name, key.data)
            return key

        return await self._link.call(f"{self._name}.put_key", effect)
