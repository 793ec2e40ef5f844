"""The state tier in Azure CosmosDB: one container, one conditional write a commit, reads that see what was written.

The layout is told in :mod:`.cosmosdb_container`. Deletion by TTL goes by whole seconds, so an item past its expiry counts
as absent here. The item's own lock (Degraded mode) goes by the clocks of those who take it: with skewed clocks a lock may
open early, which costs politeness only, because the version check at commit still holds.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from agentmemory_sidecar.stores import cosmosdb_container as layout
from agentmemory_sidecar.stores.cosmosdb_account import STORE, CosmosCalls, CosmosOptions
from agentmemory_sidecar.stores.cosmosdb_entries import add_entries, put_with_entries
from agentmemory_sidecar.stores.cosmosdb_item import (
    Commit,
    Document,
    committed,
    data,
    expired,
    free,
    held,
    holder_of,
    locked,
    matches,
    pieces,
    stored,
    text,
    unlocked,
    versions_of,
    with_others,
)
from agentmemory_sidecar.stores.cosmosdb_keys import CosmosKeyShelf
from agentmemory_sidecar.stores.cosmosdb_requests import PROPERTY, Changed, Requests, Seen
from agentmemory_sidecar.stores.protocols import (
    ROOT,
    AlreadyWritten,
    Conversation,
    Locked,
    Sessions,
    StaleWrite,
    Stored,
    StoreUnavailable,
    Versions,
)

T = TypeVar("T")

ONE_HEAD = "main"
"""The head of an account that takes writes in one region."""
ATTEMPTS = 8
"""Tries of a write whose item is changed by others at the same moment in ways that do not speak against it."""
AGENTS_PAGE = 25
REMEMBERED = 1000
"""Items whose ETags are kept in memory, so that a write need not look before."""


class CosmosStateStore:
    """:class:`~.protocols.StateStore` on a container of :func:`agentmemory_sidecar.layout.cosmosdb.container_definition`."""

    def __init__(self, options: CosmosOptions, *, head: str = ONE_HEAD) -> None:
        """``head`` is the resource's region where every region of the account takes writes, ``main`` elsewhere.

        Nothing is sent before the first call.
        """
        self.head = head
        self._calls = CosmosCalls(options)
        self._seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()

    @property
    def shelf(self) -> CosmosKeyShelf:
        """The sealing keys in the same container, over the same connections."""
        return CosmosKeyShelf(self._run)

    async def versions(self, conversation: Conversation) -> Versions:
        partition, item = self._head(conversation)

        async def job(container: Requests) -> Versions:
            own = (await self._look(container, partition, item)).document
            if self.head == ONE_HEAD:
                return versions_of(own, time.time())
            names = ("id", "turn", "version", "expires", "written")
            rows = await container.query(partition, layout.head_range(conversation.agent), only=names)
            now = time.time()
            return with_others(versions_of(own, now), _others(rows, item), now)

        return await self._run(job)

    async def read(self, conversation: Conversation) -> Stored:
        partition, item = self._head(conversation)

        async def job(container: Requests) -> Stored:
            own = (await self._look(container, partition, item)).document
            return await self._with_ledger(container, conversation, own)

        return await self._run(job)

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
            raise ValueError("an item's body must not be empty: that is how an item looks that is only locked")
        partition, item = self._head(conversation)
        mark = layout.pending_mark(conversation.tenant, self.head) if pending else ""
        commit = Commit(body, expect, new, mark, token, ttl_s)
        ids = {layout.ledger_id(conversation.agent, name): entry for name, entry in (entries or {}).items()}

        async def job(container: Requests) -> None:
            left = dict(ids)
            remembered = self._seen.pop((partition, item), None)
            seen = remembered or await self._look(container, partition, item)
            for _ in range(ATTEMPTS):
                now = time.time()
                if not matches(seen.document, commit, now):
                    if seen is remembered:
                        seen = await self._look(container, partition, item)
                        continue
                    await add_entries(container, partition, left)
                    raise StaleWrite(f"{STORE}: expected {expect}, found {versions_of(seen.document, now)}")
                made = committed(seen.document, commit, now)
                try:
                    etag = await put_with_entries(container, partition, item, made, seen, left)
                except Changed:
                    seen = await self._look(container, partition, item)
                    continue
                self._remember(partition, item, Seen(made, etag))
                return
            raise StoreUnavailable(STORE, "the item to write keeps being changed by others", definite=not entries)

        await self._run(job)

    async def add_entries(self, conversation: Conversation, entries: Mapping[str, bytes]) -> Mapping[str, bytes]:
        partition = layout.partition(conversation.tenant, conversation.session)
        names = {layout.ledger_id(conversation.agent, name): name for name in entries}

        async def job(container: Requests) -> Mapping[str, bytes]:
            standing = await add_entries(container, partition, {each: entries[name] for each, name in names.items()})
            return {names[each]: entry for each, entry in standing.items()}

        return await self._run(job)

    async def lock(
        self, conversation: Conversation, token: str, ttl_s: float, entries: Mapping[str, bytes] | None = None
    ) -> Stored:
        partition, item = self._head(conversation)
        ids = {layout.ledger_id(conversation.agent, name): entry for name, entry in (entries or {}).items()}

        async def job(container: Requests) -> Stored:
            def wanted(document: Document | None, now: float) -> dict[str, Any]:
                if left := held(document, token, now):
                    assert document is not None
                    raise Locked(holder_of(document), left)
                return locked(document, token, ttl_s, now)

            made = await self._change(container, partition, item, wanted, blind=True, left=dict(ids))
            return await self._with_ledger(container, conversation, made)

        return await self._run(job)

    async def unlock(self, conversation: Conversation, token: str) -> None:
        partition, item = self._head(conversation)

        async def job(container: Requests) -> None:
            def wanted(document: Document | None, now: float) -> dict[str, Any] | None:
                if document is None or not holder_of(document) or not free(document, token):
                    return None
                return unlocked(document, now)

            await self._change(container, partition, item, wanted)

        await self._run(job)

    async def put_chunks(self, conversation: Conversation, name: str, data: bytes) -> None:
        partition = layout.partition(conversation.tenant, conversation.session)
        cut = pieces(data)

        def put(place: int) -> Callable[[Requests], Awaitable[None]]:
            item = layout.chunk_id(conversation.agent, name, place)
            piece = {"data": text(cut[place]), "of": len(cut)}

            async def job(container: Requests) -> None:
                try:
                    await container.create(partition, item, piece)
                except Changed:
                    standing = (await container.read(partition, item)).document or {}
                    if (standing.get("data"), standing.get("of")) != (piece["data"], piece["of"]):
                        raise AlreadyWritten("a chunk of this name holds other bytes") from None

            return job

        await self._each([put(place) for place in range(len(cut))])

    async def get_chunks(self, conversation: Conversation, name: str) -> bytes | None:
        partition = layout.partition(conversation.tenant, conversation.session)

        async def piece(place: int) -> Document | None:
            item = layout.chunk_id(conversation.agent, name, place)
            return (await self._run(lambda container: container.read(partition, item))).document

        first = await piece(0)
        if first is None:
            return None
        found = [first, *[await piece(place) for place in range(1, int(first["of"]))]]
        # A value of which pieces are missing was never completely written, or is being deleted.
        parts = [data(each["data"]) for each in found if each is not None]
        return b"".join(parts) if len(parts) == len(found) else None

    async def delete_chunks(self, conversation: Conversation, name: str) -> None:
        partition = layout.partition(conversation.tenant, conversation.session)

        async def job(container: Requests) -> None:
            first = (await container.read(partition, layout.chunk_id(conversation.agent, name, 0))).document
            # The first one, which tells how many there are, goes last.
            for place in reversed(range(int(first["of"]) if first else 0)):
                await container.delete(partition, layout.chunk_id(conversation.agent, name, place))

        await self._run(job)

    async def index(self, tenant: str, subject: str, session: str) -> None:
        partition = layout.index_partition(tenant, layout.shard(subject))
        item = layout.index_id(subject, session)

        async def job(container: Requests) -> None:
            try:
                await container.create(partition, item, {})
            except Changed:
                return

        await self._run(job)

    async def sessions(self, tenant: str, *, subject: str = "", after: str = "", limit: int = 100) -> Sessions:
        """A cursor is ``<shard>:<id>``. Raises ValueError for one that no earlier page gave."""
        shards = (layout.shard(subject),) if subject else layout.INDEX_SHARDS
        begin, _, start = after.partition(":")
        if after and (begin not in shards or not start):
            raise ValueError(f"{after!r} is not where a page of this listing began: pass the `next` of the page before")
        low, high = layout.index_range(subject)

        async def job(container: Requests) -> Sessions:
            rows: list[tuple[str, str]] = []  # shard and id
            for part in shards:
                if part >= begin and len(rows) <= limit:
                    since = f"{start}!" if part == begin and start else low
                    wanted = limit + 1 - len(rows)  # one more tells whether there is a next page
                    partition = layout.index_partition(tenant, part)
                    await container.read(partition, "-")  # there is none; how far the primary has got
                    found = await container.query(partition, (since, high), limit=wanted, only=("id",))
                    rows += [(part, row["id"]) for row in found]
            page = rows[:limit]
            following = ":".join(page[-1]) if len(rows) > limit else ""
            return Sessions([layout.index_row(item) for _, item in page], following)

        return await self._run(job)

    async def agents(self, tenant: str, session: str) -> Sequence[str]:
        partition = layout.partition(tenant, session)

        async def job(container: Requests) -> Sequence[str]:
            found: set[str] = set()
            low, high = layout.EVERYTHING
            await container.read(partition, "-")
            while True:
                # From one agent's head to the next, past ledgers and chunks.
                names = ("id", "expires", "written")
                rows = await container.query(partition, (low, high), limit=AGENTS_PAGE, only=names)
                now = time.time()
                for row in rows:
                    agent, kind, _ = layout.split(row["id"])
                    if kind == "head" and "written" in row and not expired(row, now):
                        found.add(agent)
                if len(rows) < AGENTS_PAGE:
                    return sorted(found, key=lambda agent: (agent != ROOT, agent))
                low = layout.after(rows[-1]["id"])

        return await self._run(job)

    async def pending(self, tenant: str, limit: int = 100) -> Sequence[Conversation]:
        mark = layout.pending_mark(tenant, self.head)
        rows = await self._run(lambda container: container.marked(mark, limit))
        now = time.time()
        return [layout.conversation(row[PROPERTY], layout.split(row["id"])[0]) for row in rows if not expired(row, now)]

    async def ping(self) -> None:
        await self._run(lambda container: container.read("ping", "ping"))

    async def close(self) -> None:
        await self._calls.close()

    async def _change(
        self,
        container: Requests,
        partition: str,
        item: str,
        wanted: Callable[[Document | None, float], dict[str, Any] | None],
        *,
        blind: bool = False,
        left: dict[str, bytes] | None = None,
    ) -> Document | None:
        """Make of an item what ``wanted`` makes of it, or nothing for None; the item as it then is. ``blind``: try to make
        one that was never met without a look. ``left``: entries to store before it."""
        # An item that was never met may be a new one.
        seen = Seen(None, "") if blind and (partition, item) not in self._seen else None
        for _ in range(ATTEMPTS):
            seen = seen or await self._look(container, partition, item)
            made = wanted(seen.document, time.time())
            if made is None:
                return seen.document
            try:
                etag = await put_with_entries(container, partition, item, made, seen, left or {})
            except Changed:
                seen = None
                continue
            self._remember(partition, item, Seen(made, etag))
            return made
        raise StoreUnavailable(STORE, "the item to lock keeps being changed by others", definite=True)

    async def _with_ledger(self, container: Requests, conversation: Conversation, own: Document | None) -> Stored:
        """What is read beside an item that is known: its ledger, and other heads where there are any."""
        partition, item = self._head(conversation)
        ids = (layout.ledger_range if self.head == ONE_HEAD else layout.beside_range)(conversation.agent)
        rows = await container.query(partition, ids)
        ledger = {layout.split(row["id"])[2]: data(row["entry"]) for row in rows if "entry" in row}
        others = _others([row for row in rows if "entry" not in row], item)
        return stored(own, ledger, time.time(), others)

    async def _look(self, container: Requests, partition: str, item: str) -> Seen:
        seen = await container.read(partition, item)
        self._remember(partition, item, seen)
        return seen

    def _remember(self, partition: str, item: str, seen: Seen) -> None:
        small = None if seen.document is None else {k: v for k, v in seen.document.items() if k != "body"}
        self._seen[partition, item] = Seen(small, seen.etag)
        self._seen.move_to_end((partition, item))
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    async def _each(self, jobs: Sequence[Callable[[Requests], Awaitable[None]]]) -> None:
        """Run all, in turn; once one has had an effect the call is none without effect."""
        for number, job in enumerate(jobs):
            try:
                await self._run(job)
            except StoreUnavailable as error:
                error.definite = error.definite and number == 0
                raise

    async def _run(self, job: Callable[[Requests], Awaitable[T]]) -> T:
        return await self._calls.run(lambda call: job(Requests(call)))

    def _head(self, conversation: Conversation) -> tuple[str, str]:
        partition = layout.partition(conversation.tenant, conversation.session)
        return partition, layout.head_id(conversation.agent, self.head)


def _others(rows: Sequence[Document], own: str) -> dict[str, Document]:
    return {layout.split(row["id"])[2]: row for row in rows if row["id"] != own}
