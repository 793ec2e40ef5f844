"""Reads a conversation's records back: from the archive, and from the outbox what has not got there yet."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from agentmemory_sidecar.archive.blobs import BlobReader
from agentmemory_sidecar.archive.keys import KeyStore
from agentmemory_sidecar.archive.record import Header, Payload, header_of, key_of, payload_of, prefix_of
from agentmemory_sidecar.archive.sealing import NotOurs
from agentmemory_sidecar.memory import links
from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.stores.protocols import Conversation, ObjectStore, StateStore


@dataclass(frozen=True, slots=True)
class Record:
    """One record; ``payload`` is None where its key is gone (the person was erased) or it does not open."""

    header: Header
    payload: Payload | None


class RecordReader:
    """Raises StoreUnavailable, KeyUnavailable."""

    def __init__(self, records: ObjectStore, state: StateStore, keys: KeyStore, blobs: BlobReader) -> None:
        self._records, self._state, self._keys, self._blobs = records, state, keys, blobs

    async def records(self, conversation: Conversation, item: Item) -> AsyncIterator[Record]:
        """All records of one conversation in the order of their sequence, region by region."""
        seen: set[str] = set()
        if not item.subject:
            return
        async for key in self._records.keys(prefix_of(conversation.tenant, item.subject, conversation)):
            data = await self._records.get(key)
            if data is not None:
                seen.add(key)
                yield await self._opened(data)
        for outgoing in item.outbox:
            if outgoing.key not in seen:
                data = outgoing.data or await self._state.get_chunks(conversation, outgoing.chunks)
                if data is not None:
                    yield await self._opened(data)

    async def one(self, conversation: Conversation, item: Item, region: str, seq: int) -> Record | None:
        """One record of a chain; None for none."""
        key = key_of(conversation.tenant, item.subject, conversation, region, seq)
        waiting = next((outgoing for outgoing in item.outbox if outgoing.key == key), None)
        if waiting is not None:
            data = waiting.data or await self._state.get_chunks(conversation, waiting.chunks)
        else:
            data = await self._records.get(key)
        return None if data is None else await self._opened(data)

    async def _opened(self, data: bytes) -> Record:
        header = header_of(data)
        key = await self._keys.find(header.tenant, header.subject, header.generation)
        if key is None:
            return Record(header, None)
        try:
            return Record(header, payload_of(data, key))
        except NotOurs:
            return Record(header, None)

    async def whole(self, conversation: Conversation, record: Record) -> Record:
        """The record with its blobs read back in."""
        if record.payload is None or not record.header.blobs:
            return record
        found = await self._blobs.read(conversation, record.header.subject, record.header.blobs)
        resolved = links.resolve(msgspec.to_builtins(record.payload), found)
        return Record(record.header, msgspec.convert(resolved, Payload))
