"""Ledger entries beside a state item: immutable, so that whoever comes second takes what stands; in batches where there are
several, and in one with the item where a write brings some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentmemory_sidecar.stores.cosmosdb_account import STORE
from agentmemory_sidecar.stores.cosmosdb_item import data, text
from agentmemory_sidecar.stores.cosmosdb_requests import (
    BATCH_BYTES,
    BATCH_OPERATIONS,
    Changed,
    Requests,
    Seen,
    document,
)
from agentmemory_sidecar.stores.cosmosdb_wire import Refused
from agentmemory_sidecar.stores.protocols import StoreUnavailable

BESIDE = 600
"""Bytes of an entry's operation in a batch beside the entry itself and its keys, at most."""


async def add_entries(container: Requests, partition: str, entries: Mapping[str, bytes]) -> dict[str, bytes]:
    """Store each entry (by item id) unless its id is taken; those that stand."""
    standing = dict(entries)
    for names in batches(partition, entries):
        left = list(names)
        while len(left) > 1:
            try:
                await container.batch(partition, [_create(partition, name, entries[name]) for name in left])
            except Refused as refused:
                if refused.status != 409:
                    raise
                taken = left.pop(refused.operation)
                standing[taken] = await _standing(container, partition, taken)
            else:
                left = []
        for name in left:
            try:
                await container.create(partition, name, {"entry": text(entries[name])})
            except Changed:
                standing[name] = await _standing(container, partition, name)
    return standing


async def put_with_entries(
    container: Requests, partition: str, item: str, made: Mapping[str, Any], seen: Seen, left: dict[str, bytes]
) -> str:
    """Write the item upon what was seen, and before it those entries that are ``left``, in one transaction where they
    fit; its new ETag. Takes out of ``left`` what is stored. Raises Changed."""
    size = len(made.get("body", "")) + sum(_size(partition, name, entry) for name, entry in left.items())
    if size > BATCH_BYTES or len(left) >= BATCH_OPERATIONS:
        await add_entries(container, partition, left)
        left.clear()
    while left:
        names = list(left)
        head = document(partition, item, made)
        operations: list[tuple[Any, ...]] = [_create(partition, name, left[name]) for name in names]
        if seen.document is None:
            operations.append(("create", (head,)))
        else:
            operations.append(("replace", (item, head), {"if_match_etag": seen.etag}))
        try:
            answers = await container.batch(partition, operations)
        except Refused as refused:
            if refused.operation < len(names) and refused.status == 409:
                del left[names[refused.operation]]
                continue
            if refused.on_item and refused.status in (404, 409, 412):
                raise Changed from None
            raise
        left.clear()
        return str(answers[-1]["eTag"])
    if seen.document is None:
        return await container.create(partition, item, made)
    return await container.replace(partition, item, made, seen.etag)


def batches(partition: str, entries: Mapping[str, bytes]) -> Iterator[list[str]]:
    """The names of ``entries`` in parts that one transaction takes."""
    part: list[str] = []
    size = 0
    for name, entry in entries.items():
        need = _size(partition, name, entry)
        if part and (size + need > BATCH_BYTES or len(part) == BATCH_OPERATIONS):
            yield part
            part, size = [], 0
        part.append(name)
        size += need
    if part:
        yield part


def _size(partition: str, name: str, entry: bytes) -> int:
    return 4 * len(entry) // 3 + 2 * len(name) + len(partition) + BESIDE


async def _standing(container: Requests, partition: str, name: str) -> bytes:
    found = (await container.read(partition, name)).document
    if found is None:
        raise StoreUnavailable(STORE, "the entry to store comes and goes", definite=False)
    return data(found["entry"])


def _create(partition: str, name: str, entry: bytes) -> tuple[Any, ...]:
    return "create", (document(partition, name, {"entry": text(entry)}),)
