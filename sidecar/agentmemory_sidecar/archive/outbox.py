"""The way from a state item's outbox into the archive.

A committed step's record lies sealed in the item; from there any sweeper writes the same bytes under the same key, so
carrying a record twice is harmless and none is lost with the process that made it. What is carried is taken out of the
item by the conversation's next commit, or by the sweep once the conversation is quiet.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from agentmemory_sidecar.archive.record import hash_of
from agentmemory_sidecar.memory.item import Item, Outgoing, UnknownFormat, pack, unpack
from agentmemory_sidecar.stores.protocols import (
    AlreadyWritten,
    Conversation,
    ObjectStore,
    StaleWrite,
    StateStore,
    StoreUnavailable,
)

log = logging.getLogger(__name__)

BATCH = 64
"""Records carried in one call."""
GATHER_S = 0.1
GATHERED = 6_144
"""Bytes of one conversation's records from which on they are carried at once: until then they travel with its item."""
QUEUE = 1_000
"""Records that wait in memory at the most; the rest is found again in the state tier."""
LOOKED_AT, MOST_LOOKED_AT = 100, 6_400
"""Conversations of one sweep: more while there are more, of which some only wait for a model to read their turns."""
LEFT_ALONE_S = 120.0
"""How long a conversation that waits for nothing else is not looked at again."""
REMEMBERED = 10_000
"""Conversations of which it is known how far they are archived."""


class PatchApplier(Protocol):
    async def apply(self, conversation: Conversation) -> None:
        """Apply the conversation's outgoing patches to their targets. Raises StoreUnavailable."""
        ...


class Archiver:
    """Carries records in the background, and sweeps what other processes left behind."""

    def __init__(
        self,
        tenant: str,
        records: ObjectStore,
        blobs: ObjectStore,
        state: StateStore,
        patches: PatchApplier,
        *,
        state_ttl_s: int | None,
        longest_pause_s: float = 30.0,
    ) -> None:
        self._tenant = tenant
        self._records, self._blobs, self._state, self._patches = records, blobs, state, patches
        self._ttl = state_ttl_s
        self._longest_pause = longest_pause_s
        self._queue: deque[tuple[Conversation, Outgoing]] = deque()
        self._filled = asyncio.Event()
        self._archived: OrderedDict[Conversation, int] = OrderedDict()
        self._busy: dict[Conversation, int] = {}
        self._queued: dict[Conversation, int] = {}
        """The sequence up to which the conversation's records wait in the queue."""
        self._hurry = asyncio.Event()
        self.on_unread: Callable[[Conversation, Item], None] | None = None
        """Told of conversations with turns that no model has read."""
        self._looked_at = LOOKED_AT
        self._left_alone: dict[Conversation, float] = {}

    def submit(self, conversation: Conversation, outbox: Sequence[Outgoing]) -> None:
        """Carry an item's whole outbox soon, in its order: ``archived`` counts on it that nothing before a carried record is
        left out. Never waits: what does not fit, or has its bytes in chunk items, is left to the sweep."""
        self._left_alone.pop(conversation, None)
        queued, size = self._queued.get(conversation, 0), 0
        for record in outbox:
            if not record.data:
                continue
            size += len(record.data)
            if record.seq <= queued:
                continue
            if len(self._queue) >= QUEUE:
                return
            self._queue.append((conversation, record))
            self._queued[conversation] = record.seq
        if self._queue:
            self._filled.set()
        if size > GATHERED:
            self._hurry.set()

    def archived(self, conversation: Conversation) -> int:
        """The sequence up to which the conversation's records are known to be in the archive, chunk items apart."""
        return self._archived.get(conversation, 0)

    def enter(self, conversation: Conversation) -> None:
        """A step of this conversation runs here: the sweep leaves it alone."""
        self._busy[conversation] = self._busy.get(conversation, 0) + 1

    def leave(self, conversation: Conversation) -> None:
        if (left := self._busy[conversation] - 1) > 0:
            self._busy[conversation] = left
        else:
            del self._busy[conversation]

    async def run(self) -> None:
        """Carry what is submitted, until cancelled. While the archive is away it tries again with growing pauses."""
        pause = 0.0
        while True:
            await self._filled.wait()
            # Nobody waits for this: a moment's patience carries what many steps left in one call.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._hurry.wait()
            self._hurry.clear()
            batch = self._taken(BATCH)
            if not batch:
                continue  # drained meanwhile
            for conversation, record in batch:
                if self._queued.get(conversation) == record.seq:
                    del self._queued[conversation]
            while True:
                try:
                    await self._carry(batch)
                    pause = 0.0
                    break
                except StoreUnavailable as error:
                    pause = min(max(pause * 2, 0.5), self._longest_pause)
                    log.warning("archive away, %d records wait, next try in %.1f s (%s)",
                                len(batch) + len(self._queue), pause, error.store)  # fmt: skip
                    await asyncio.sleep(pause)

    async def drain(self) -> None:
        """Carry what is queued now, once. Raises StoreUnavailable."""
        if batch := self._taken(QUEUE):
            await self._carry(batch)

    def _taken(self, most: int) -> list[tuple[Conversation, Outgoing]]:
        """The records that wait longest, at most so many, taken out of the queue."""
        batch = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        if not self._queue:
            self._filled.clear()
        return batch

    async def sweep_for_ever(self, every_s: float) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("sweep postponed: %s away", error.store)
            await asyncio.sleep(every_s)

    async def sweep(self) -> int:
        """Carry and take out what waits in the items of quiet conversations; returns how many were looked at."""
        waiting = await self._state.pending(self._tenant, self._looked_at)
        self._looked_at = min(self._looked_at * 2, MOST_LOOKED_AT) if len(waiting) == self._looked_at else LOOKED_AT
        now = time.monotonic()
        self._left_alone = {one: self._left_alone[one] for one in waiting if self._left_alone.get(one, 0.0) > now}
        for conversation in waiting:
            if conversation not in self._busy and conversation not in self._left_alone:
                try:
                    await self._settle(conversation)
                except UnknownFormat as error:
                    log.warning("left to a newer sidecar: %s", error)
        return len(waiting)

    async def _settle(self, conversation: Conversation) -> None:
        stored = await self._state.read(conversation)
        item = unpack(stored.body)
        if item.unread and self.on_unread is not None:
            self.on_unread(conversation, item)
        if not item.carries:
            if item.unread:
                self._left_alone[conversation] = time.monotonic() + LEFT_ALONE_S
            return
        if item.patches:
            await self._patches.apply(conversation)
            stored = await self._state.read(conversation)
            item = unpack(stored.body)
        await self._carry([(conversation, record) for record in item.outbox])
        await self._move_blobs(conversation, item.blobs)
        spilled = [record.chunks for record in item.outbox if not record.data]
        done = msgspec.structs.replace(item, outbox=[], blobs=[])
        try:
            # What the item means stays as it was, so its versions do too: this only takes out what was carried.
            await self._state.write(
                conversation,
                pack(done),
                expect=stored.versions,
                new=stored.versions,
                pending=done.pending,
                ttl_s=self._ttl,
            )
        except StaleWrite:
            return
        for name in (*spilled, *item.blobs):
            await self._state.delete_chunks(conversation, name)

    async def _carry(self, batch: Sequence[tuple[Conversation, Outgoing]]) -> None:
        objects: dict[str, bytes] = {}
        for conversation, record in batch:
            data = record.data or await self._state.get_chunks(conversation, record.chunks)
            if data is not None:
                objects[record.key] = data
        try:
            await self._records.put(objects)
        except AlreadyWritten:
            await self._fork(objects)
        for conversation, record in batch:
            self._archived[conversation] = max(record.seq, self._archived.get(conversation, 0))
            self._archived.move_to_end(conversation)
        while len(self._archived) > REMEMBERED:
            self._archived.popitem(last=False)

    async def _fork(self, objects: dict[str, bytes]) -> None:
        """A key holds other bytes: the state tier was put back to an earlier time and the chain went on twice. Both are
        kept; ``audit verify`` names the fork."""
        for key, data in objects.items():
            try:
                await self._records.put({key: data})
            except AlreadyWritten:
                log.error("archive chain forked at a record; the second one is kept beside the first")
                await self._records.put({f"{key}.fork-{hash_of(data)[:16]}": data})

    async def _move_blobs(self, conversation: Conversation, names: Sequence[str]) -> None:
        for name in names:
            data = await self._state.get_chunks(conversation, name)
            if data is not None:
                await self._blobs.put({name: data})
