"""From a state item's outbox into the archive, on real stores."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from agentmemory_sidecar.archive.blobs import BlobReader, Drafts
from agentmemory_sidecar.archive.keys import LocalKeyStore
from agentmemory_sidecar.archive.outbox import Archiver
from agentmemory_sidecar.memory.item import Item, Outgoing, OutgoingPatch, pack, unpack
from agentmemory_sidecar.stores.health import Cooldown
from agentmemory_sidecar.stores.postgres import PostgresObjectStore, PostgresOptions, PostgresStateStore
from agentmemory_sidecar.stores.protocols import ABSENT, Conversation, StoreUnavailable, Versions
from tests.faults import FaultProxy
from tests.sidecar.stores.conformance.backends import postgres_options, postgres_target


@dataclass
class Place:
    """Stores of a tenant of its own, whose archive lies behind a proxy."""

    tenant: str
    state: PostgresStateStore
    records: PostgresObjectStore
    blobs: PostgresObjectStore
    proxy: FaultProxy
    applied: list[Conversation]

    async def apply(self, conversation: Conversation) -> None:
        self.applied.append(conversation)

    def archiver(self) -> Archiver:
        return Archiver(self.tenant, self.records, self.blobs, self.state, self, state_ttl_s=None, longest_pause_s=0.1)

    def conversation(self, session: str = "s") -> Conversation:
        return Conversation(self.tenant, session)

    async def write(self, item: Item, session: str = "s") -> None:
        conversation = self.conversation(session)
        await self.state.write(conversation, pack(item), expect=ABSENT, new=Versions(1, 1), pending=item.pending)

    async def item(self, session: str = "s") -> Item:
        return unpack((await self.state.read(self.conversation(session))).body)

    def record(self, seq: int, data: bytes = b"", chunks: str = "") -> Outgoing:
        return Outgoing(f"{self.tenant}/s/{seq:012d}", seq, data, chunks)


@pytest.fixture
async def place(dsn: str) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(postgres_target(dsn)))
        far = postgres_options(dsn, proxy)
        state = PostgresStateStore(PostgresOptions(dsn))
        records, blobs = PostgresObjectStore(far, "records"), PostgresObjectStore(far, "blobs")
        for store in (state, records, blobs):
            stack.push_async_callback(store.close)
        yield Place(f"t-{uuid4().hex[:12]}", state, records, blobs, proxy, [])


async def test_sweep_carries_everything_and_clears_the_item(place: Place) -> None:
    await place.state.put_chunks(place.conversation(), "moved", b"two" * 50_000)
    await place.state.put_chunks(place.conversation(), "blob", b"sealed")
    name = f"{place.tenant}/blob"
    await place.state.put_chunks(place.conversation(), name, b"sealed")
    outbox = [place.record(1, b"one"), place.record(2, chunks="moved"), place.record(3, b"three")]
    await place.write(Item(outbox=outbox, blobs=[name], state=b"{}"))

    assert await place.archiver().sweep() == 1

    found = [await place.records.get(record.key) for record in outbox]
    assert found == [b"one", b"two" * 50_000, b"three"]
    assert await place.blobs.get(name) == b"sealed"
    assert await place.item() == Item(state=b"{}")
    assert await place.state.versions(place.conversation()) == Versions(1, 1)
    assert await place.state.get_chunks(place.conversation(), "moved") is None
    assert await place.archiver().sweep() == 0


async def test_sweepers_at_once_write_the_same(place: Place) -> None:
    await place.write(Item(outbox=[place.record(seq, b"%d" % seq) for seq in range(1, 20)]))

    await asyncio.gather(*(place.archiver().sweep() for _ in range(4)))

    assert [key async for key in place.records.keys(f"{place.tenant}/")] == [place.record(n).key for n in range(1, 20)]


async def test_busy_conversation_is_left_alone(place: Place) -> None:
    archiver = place.archiver()
    await place.write(Item(outbox=[place.record(1, b"one")]))
    archiver.enter(place.conversation())
    archiver.enter(place.conversation())
    archiver.leave(place.conversation())
    await archiver.sweep()
    assert (await place.item()).outbox

    archiver.leave(place.conversation())
    await archiver.sweep()
    assert not (await place.item()).outbox


async def test_archive_that_is_away_keeps_all_in_the_item(place: Place) -> None:
    await place.write(Item(outbox=[place.record(1, b"one")]))
    await place.proxy.refuse()
    archiver = place.archiver()

    with pytest.raises(StoreUnavailable):
        await archiver.sweep()
    assert len((await place.item()).outbox) == 1
    assert archiver.archived(place.conversation()) == 0

    await place.proxy.heal()
    await archiver.sweep()
    assert archiver.archived(place.conversation()) == 1


async def test_submitted_records_go_out_once_the_archive_is_back(place: Place) -> None:
    archiver = place.archiver()
    await place.proxy.refuse()
    running = asyncio.get_running_loop().create_task(archiver.run())
    archiver.submit(
        place.conversation(), [place.record(1, b"one"), place.record(2, b"two"), place.record(3, chunks="c")]
    )
    await asyncio.sleep(0.1)
    assert archiver.archived(place.conversation()) == 0

    await place.proxy.heal()
    while archiver.archived(place.conversation()) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    running.cancel()

    assert await place.records.get(place.record(2).key) == b"two"
    assert await place.records.get(place.record(3).key) is None  # its bytes lie in chunk items: the sweep's


async def test_fork_keeps_both(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    await place.records.put({place.record(1).key: b"before the restore"})
    await place.write(Item(outbox=[place.record(1, b"after it"), place.record(2, b"next")]))

    await place.archiver().sweep()

    found = {key: await place.records.get(key) async for key in place.records.keys(f"{place.tenant}/")}
    assert sorted(found.values(), key=str) == sorted([b"after it", b"before the restore", b"next"], key=str)
    assert any(".fork-" in key for key in found)
    assert "forked" in caplog.text
    assert "restore" not in caplog.text


async def test_item_of_a_newer_format_stops_nobody_elses_sweep(place: Place) -> None:
    newer = msgspec.msgpack.encode({"format": 99})
    for session in ("a", "z"):
        conversation = place.conversation(session)
        await place.state.write(conversation, newer, expect=ABSENT, new=Versions(1, 1), pending=True)
    await place.write(Item(outbox=[place.record(1, b"one")]), "m")

    await place.archiver().sweep()

    assert not (await place.item("m")).outbox
    assert (await place.state.read(place.conversation("a"))).body == newer


async def test_patches_are_applied_first(place: Place) -> None:
    await place.write(Item(patches=[OutgoingPatch(1, "root", b"{}")]))

    await place.archiver().sweep()

    assert place.applied == [place.conversation()]


# ----------------------------------------------------------------------------------------------------------------- blobs


async def test_blob_is_read_from_wherever_it_is(place: Place, tmp_path: Path) -> None:
    keys, health = LocalKeyStore(tmp_path), Cooldown(60)
    key = await keys.key(place.tenant, "user:anna")
    here = place.conversation()
    reader = BlobReader(place.tenant, keys, place.blobs, place.state)
    stored, waiting = Drafts(place.tenant, key), Drafts(place.tenant, key)
    name = stored.add("a long text \ud800")
    assert stored.add("a long text \ud800") == name
    await stored.write(place.blobs, health, place.state, here)
    await place.proxy.refuse()
    late = waiting.add("another")
    await waiting.write(place.blobs, health, place.state, here)

    assert (stored.waiting, waiting.waiting) == ([], [late])
    assert not health.ready
    assert await reader.read(here, "user:anna", [name, late]) == {late: "another"}
    await place.proxy.heal()
    assert await reader.read(here, "user:anna", [name, late]) == {name: "a long text \ud800", late: "another"}
    # Nobody else's, and nothing that was never there.
    assert await reader.read(here, "user:ben", [name]) == {}
    assert await reader.read(here, "user:anna", ["elsewhere", name[:-1] + "x"]) == {}
    sealed = await place.blobs.get(name)
    assert sealed is not None
    assert b"long text" not in sealed
    assert name.startswith(f"{place.tenant}/user%3Aanna/")
