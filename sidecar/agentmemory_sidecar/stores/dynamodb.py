"""The state tier in DynamoDB: one table, one conditional write a commit, every read strongly consistent.

The layout is told in :mod:`.dynamodb_table`. TTL deletes lag by days, so an item past its expiry counts as absent here.
The item's own lock (Degraded mode) goes by the clocks of those who take it, for DynamoDB has none to offer: with skewed
clocks a lock may open early, which costs politeness only, because the version check at commit still holds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from agentmemory_sidecar.stores import dynamodb_table as keys
from agentmemory_sidecar.stores.aws import AwsCalls, AwsOptions, all_of
from agentmemory_sidecar.stores.dynamodb_item import (
    Item,
    Update,
    commit_update,
    expired,
    held,
    holder_of,
    lock_anew,
    lock_update,
    matches,
    pieces,
    stored,
    versions_of,
    with_others,
)
from agentmemory_sidecar.stores.dynamodb_keys import DynamoKeyShelf
from agentmemory_sidecar.stores.dynamodb_requests import SLIM, VERSIONS, Refused, Requests
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.config import Config
    from botocore.session import Session
    from mypy_boto3_dynamodb.client import DynamoDBClient

T = TypeVar("T")

STORE = "dynamodb"
ONE_HEAD = "main"
"""The head of a table in which every endpoint writes the same items."""
ATTEMPTS = 4
"""Tries of a lock whose item is made and deleted by others at the same moment."""
AGENTS_PAGE = 25


class DynamoStateStore:
    """:class:`~.protocols.StateStore` on a table made by :func:`agentmemory_sidecar.layout.dynamodb.table_definition`."""

    def __init__(self, options: AwsOptions, table: str, *, head: str = ONE_HEAD) -> None:
        """``head`` is the options' region for an Eventual global table, ``main`` for any other table.

        Nothing is sent before the first call.
        """
        self.head = head
        self._table = table
        where = f"{options.region} at {options.endpoint_url}" if options.endpoint_url else options.region
        hints = {
            "ResourceNotFoundException": f"table {table!r} not found in {where}: create it (docs/stores.md says how),"
            " or correct state.dynamodb.table, the region or the account",
        }

        def connect(session: Session, config: Config) -> DynamoDBClient:
            return cast(
                "DynamoDBClient",
                session.create_client(
                    "dynamodb", endpoint_url=options.endpoint_url, config=config, verify=options.ca_file or None
                ),
            )

        self._calls: AwsCalls[DynamoDBClient] = AwsCalls(STORE, options, connect, hints)

    @property
    def shelf(self) -> DynamoKeyShelf:
        """The sealing keys in the same table, over the same connections."""
        return DynamoKeyShelf(self._run)

    async def versions(self, conversation: Conversation) -> Versions:
        key = self._head(conversation)
        if self.head != ONE_HEAD:
            return await self._run(lambda table: self._all_versions(table, conversation))

        def job(table: Requests) -> Versions:
            return versions_of(table.get(key, "#turn, #version, #expires"), time.time())

        return await self._run(job)

    async def read(self, conversation: Conversation) -> Stored:
        key = self._head(conversation)

        def job(table: Requests) -> Stored:
            item: Item | None = None
            others: dict[str, Item] = {}
            ledger: dict[str, bytes] = {}
            for row in table.query(key["pk"]["S"], *keys.item_range(conversation.agent)):
                _, kind, name = keys.split(row["sk"]["S"])
                if kind == "ledger":
                    ledger[name] = row["entry"]["B"]
                elif row["sk"] == key["sk"]:
                    item = row
                elif self.head != ONE_HEAD:
                    others[name] = row
            return stored(item, ledger, time.time(), others)

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
        key = self._head(conversation)
        mark = ""
        if pending:
            part = keys.shard(key["pk"]["S"], keys.PENDING_SHARDS)
            mark = keys.pending_partition(conversation.tenant, self.head, part)

        def attempt(table: Requests, foreign: str = "") -> None:
            now = time.time()
            expires = None if ttl_s is None else int(now) + ttl_s
            update = commit_update(
                body, expect=expect, new=new, pending=mark, token=token, foreign=foreign, expires=expires, now=now
            )
            table.update(update, key)

        def job(table: Requests) -> None:
            if entries:
                add_entries(table, conversation, entries)
            try:
                try:
                    attempt(table)
                except Refused as refused:
                    foreign = holder_of(refused.item)
                    if not token or foreign in ("", token) or not matches(refused.item, expect, time.time()):
                        raise
                    attempt(table, foreign)
            except Refused as refused:
                found = versions_of(refused.item or None, time.time())
                raise StaleWrite(f"{STORE}: expected {expect}, found {found}") from None

        await self._run(job)

    async def add_entries(self, conversation: Conversation, entries: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return await self._run(lambda table: add_entries(table, conversation, entries))

    async def lock(
        self, conversation: Conversation, token: str, ttl_s: float, entries: Mapping[str, bytes] | None = None
    ) -> Stored:
        key = self._head(conversation)

        def job(table: Requests) -> Stored:
            item = take_lock(table, key, token, ttl_s)
            if entries:
                add_entries(table, conversation, entries)
                item = take_lock(table, key, token, ttl_s)  # whoever reads the version that this makes finds them
            ledger: dict[str, bytes] = {}
            others: dict[str, Item] = {}
            for row in table.query(key["pk"]["S"], *self._beside(conversation)):
                _, kind, name = keys.split(row["sk"]["S"])
                if kind == "ledger":
                    ledger[name] = row["entry"]["B"]
                elif row["sk"] != key["sk"]:
                    others[name] = row
            return stored(item, ledger, time.time(), others)

        return await self._run(job)

    async def unlock(self, conversation: Conversation, token: str) -> None:
        key = self._head(conversation)
        update = Update("REMOVE #lock_token, #lock_until", "#lock_token = :token", {":token": {"S": token}})

        def job(table: Requests) -> None:
            with suppress(Refused):
                table.update(update, key)

        await self._run(job)

    async def put_chunks(self, conversation: Conversation, name: str, data: bytes) -> None:
        pk = keys.partition(conversation.tenant, conversation.session)
        cut = pieces(data)

        def put(place: int) -> Callable[[Requests], object]:
            sk = keys.chunk_key(conversation.agent, name, place)
            item = {"pk": {"S": pk}, "sk": {"S": sk}, "data": {"B": cut[place]}, "of": {"N": str(len(cut))}}
            return lambda table: put_chunk(table, item)

        await all_of(self._run(put(place)) for place in range(len(cut)))

    async def get_chunks(self, conversation: Conversation, name: str) -> bytes | None:
        pk = keys.partition(conversation.tenant, conversation.session)

        def job(table: Requests) -> bytes | None:
            rows = list(table.query(pk, *keys.chunk_range(conversation.agent, name)))
            # A value whose last pieces are missing was never completely written, or is being deleted.
            if not rows or len(rows) < int(rows[0]["of"]["N"]):
                return None
            return b"".join(row["data"]["B"] for row in rows[: int(rows[0]["of"]["N"])])

        return await self._run(job)

    async def delete_chunks(self, conversation: Conversation, name: str) -> None:
        pk = keys.partition(conversation.tenant, conversation.session)

        def job(table: Requests) -> None:
            for row in list(table.query(pk, *keys.chunk_range(conversation.agent, name), only=SLIM)):
                table.delete(row)

        await self._run(job)

    async def index(self, tenant: str, subject: str, session: str) -> None:
        pk = keys.index_partition(tenant, keys.shard(subject, keys.INDEX_SHARDS))
        item = {"pk": {"S": pk}, "sk": {"S": keys.index_key(subject, session)}}
        await self._run(lambda table: table.put(item))

    async def sessions(self, tenant: str, *, subject: str = "", after: str = "", limit: int = 100) -> Sessions:
        """A cursor is ``<shard>:<sort key>``. Raises ValueError for one that no earlier page gave."""
        shards = (keys.shard(subject, keys.INDEX_SHARDS),) if subject else keys.INDEX_SHARDS
        begin, _, start = after.partition(":")
        if after and (begin not in shards or not start):
            raise ValueError(f"{after!r} is not where a page of this listing began: pass the `next` of the page before")
        low, high = (keys.index_key(subject, ""), f"{keys.encode(subject)}$") if subject else ("!", "\x7f")

        def job(table: Requests) -> Sessions:
            rows: list[tuple[str, str]] = []  # shard and sort key
            for part in shards:
                if part >= begin and len(rows) <= limit:
                    since = start if part == begin else ""
                    pk = keys.index_partition(tenant, part)
                    wanted = limit + 1 - len(rows)  # one more tells whether there is a next page
                    found = table.query(pk, low, high, since=since, limit=wanted)
                    rows += [(part, row["sk"]["S"]) for row in found]
            page = rows[:limit]
            following = ":".join(page[-1]) if len(rows) > limit else ""
            return Sessions([keys.index_row(sk) for _, sk in page], following)

        return await self._run(job)

    async def agents(self, tenant: str, session: str) -> Sequence[str]:
        pk = keys.partition(tenant, session)

        def job(table: Requests) -> Sequence[str]:
            found: set[str] = set()
            sk = ""
            while True:
                # From one agent's head to the next, past ledgers and chunks.
                rows = list(table.query(pk, "!", "\x7f", since=sk, limit=AGENTS_PAGE, only=SLIM))
                now = time.time()
                for row in rows:
                    agent, kind, _ = keys.split(row["sk"]["S"])
                    if kind == "head" and "written" in row and not expired(row, now):
                        found.add(agent)
                if len(rows) < AGENTS_PAGE:
                    return sorted(found, key=lambda agent: (agent != ROOT, agent))
                sk = keys.after(rows[-1]["sk"]["S"])

        return await self._run(job)

    async def pending(self, tenant: str, limit: int = 100) -> Sequence[Conversation]:
        def candidates(part: str) -> Callable[[Requests], list[Item]]:
            mark = keys.pending_partition(tenant, self.head, part)

            def job(table: Requests) -> list[Item]:
                return table.still_marked(table.marked(mark, limit))

            return job

        parts = await all_of(self._run(candidates(part)) for part in keys.PENDING_SHARDS)
        rows = [row for part in parts for row in part][:limit]
        return [keys.conversation(row["pk"]["S"], keys.split(row["sk"]["S"])[0]) for row in rows]

    async def ping(self) -> None:
        key = {"pk": {"S": "ping"}, "sk": {"S": "ping"}}
        await self._run(lambda table: table.get(key, "#version"))

    async def close(self) -> None:
        await self._calls.close()

    def _beside(self, conversation: Conversation) -> tuple[str, str]:
        """The sort keys of what is read beside an item that is known: its ledger, and other heads where there are any."""
        range_of = keys.ledger_range if self.head == ONE_HEAD else keys.item_range
        return range_of(conversation.agent)

    def _all_versions(self, table: Requests, conversation: Conversation) -> Versions:
        pk, now = keys.partition(conversation.tenant, conversation.session), time.time()
        rows = {
            keys.split(row["sk"]["S"])[2]: row
            for row in table.query(pk, *keys.head_range(conversation.agent), only=VERSIONS)
        }
        own = rows.pop(self.head, None)
        return with_others(versions_of(own, now), rows, now)

    async def _run(self, job: Callable[[Requests], T]) -> T:
        return await self._calls.run(lambda call: job(Requests(call, self._table)))

    def _head(self, conversation: Conversation) -> dict[str, Any]:
        pk = keys.partition(conversation.tenant, conversation.session)
        return {"pk": {"S": pk}, "sk": {"S": keys.head_key(conversation.agent, self.head)}}


def take_lock(table: Requests, key: Item, token: str, ttl_s: float) -> Item:
    """Take or renew the lock; the item as it then is. Raises Locked."""
    for _ in range(ATTEMPTS):
        now = time.time()
        try:
            return table.update(lock_update(token, ttl_s, now), key, ReturnValues="ALL_NEW")
        except Refused as refused:
            item = refused.item
        if left := held(item, token, now):
            raise Locked(holder_of(item), left)
        item, condition = lock_anew(key, token, ttl_s, now, item)
        with suppress(Refused):
            table.put(item, **condition)
            return item
    raise StoreUnavailable(STORE, "the item to lock keeps being made and deleted by others", definite=True)


def put_chunk(table: Requests, item: Item) -> None:
    try:
        table.put(item, ConditionExpression="attribute_not_exists(pk)")
    except Refused as refused:
        if (refused.item["data"], refused.item["of"]) != (item["data"], item["of"]):
            raise AlreadyWritten("a chunk of this name holds other bytes") from None


def add_entries(table: Requests, conversation: Conversation, entries: Mapping[str, bytes]) -> dict[str, bytes]:
    """Store each entry unless its key exists; those that stand."""
    pk = keys.partition(conversation.tenant, conversation.session)
    standing = dict(entries)
    for name, entry in entries.items():
        item = {"pk": {"S": pk}, "sk": {"S": keys.ledger_key(conversation.agent, name)}, "entry": {"B": entry}}
        try:
            table.put(item, ConditionExpression="attribute_not_exists(pk)")
        except Refused as refused:
            standing[name] = refused.item["entry"]["B"]
    return standing
