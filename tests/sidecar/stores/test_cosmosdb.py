"""What is CosmosDB's own; the rest is in the conformance suite."""

import time
from collections.abc import AsyncIterator

import pytest

from agentmemory_sidecar.layout.cosmosdb import container_definition
from agentmemory_sidecar.stores.cosmosdb import CosmosStateStore
from agentmemory_sidecar.stores.cosmosdb_container import chunk_id, head_id, partition
from agentmemory_sidecar.stores.cosmosdb_item import CHUNK_BYTES
from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    AlreadyWritten,
    Conversation,
    OtherHead,
    StaleWrite,
    Stored,
    StoreUnavailable,
    Versions,
)
from tests.cosmos import CosmosAccount
from tests.cosmos.items import Item
from tests.sidecar.stores.conformance.backends import STATE
from tests.sidecar.stores.conformance.cosmos_backends import CONTAINER, DATABASE, cosmosdb, options, with_container
from tests.sidecar.stores.conformance.state import StateConformance

STATE["cosmosdb"] = cosmosdb
TALK = Conversation("tenant", "session")
PARTITION, HEAD = partition("tenant", "session"), head_id("root", "main")


class TestConformance(StateConformance):
    backend = "cosmosdb"


@pytest.fixture
async def account() -> AsyncIterator[CosmosAccount]:
    async with CosmosAccount() as account:
        yield with_container(account)


@pytest.fixture
async def store(account: CosmosAccount) -> AsyncIterator[CosmosStateStore]:
    store = CosmosStateStore(options(account.url, account))
    yield store
    await store.close()


async def create(store: CosmosStateStore, talk: Conversation = TALK, *, pending: bool = False) -> None:
    await store.write(talk, b"one", expect=ABSENT, new=Versions(1, 1), pending=pending)


async def update(store: CosmosStateStore) -> None:
    await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)


def lies(account: CosmosAccount, item: str = HEAD, region: str = "East US") -> Item:
    items = account.items[DATABASE, CONTAINER]
    found = items.seen(region, (PARTITION, item), items.replicas[region].lsn)
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------------------- requests


async def test_a_step_is_one_read_and_one_write(store: CosmosStateStore, account: CosmosAccount) -> None:
    await create(store)
    account.requests.clear()
    versions = await store.versions(TALK)
    await store.write(TALK, b"two", expect=versions, new=Versions(2, 2), pending=False, entries={"a": b"1", "b": b"2"})
    assert account.requests == [("East US", "POST", f"/dbs/{DATABASE}/colls/{CONTAINER}/docs")] * 2


async def test_item_changed_by_another_is_looked_at_again(store: CosmosStateStore, account: CosmosAccount) -> None:
    """What is remembered of an item saves a read, and decides nothing."""
    other = CosmosStateStore(options(account.url, account))
    await create(store)
    await other.lock(TALK, "theirs", 60)
    await other.unlock(TALK, "theirs")
    with pytest.raises(StaleWrite):
        await update(store)
    now = await other.versions(TALK)
    await other.write(TALK, b"two", expect=now, new=Versions(2, 7), pending=False)
    await store.write(TALK, b"three", expect=Versions(2, 7), new=Versions(3, 8), pending=False)
    assert (await other.read(TALK)).body == b"three"
    await other.close()


async def test_refused_batch_of_entries_and_item_leaves_the_entries(store: CosmosStateStore) -> None:
    await create(store)
    entries = {f"k{number}": b"entry" for number in range(150)}
    with pytest.raises(StaleWrite):
        await store.write(TALK, b"x", expect=Versions(8, 8), new=Versions(9, 9), pending=False, entries=entries)
    assert (await store.read(TALK)).ledger == entries


async def test_entries_beyond_a_batch_are_stored_too(store: CosmosStateStore) -> None:
    entries = {f"k{number}": bytes(60_000) for number in range(40)}
    await store.add_entries(TALK, {"k7": b"first"})
    await store.write(TALK, b"one", expect=ABSENT, new=Versions(1, 1), pending=False, entries=entries)
    assert (await store.read(TALK)).ledger == {**entries, "k7": b"first"}
    assert await store.add_entries(TALK, {"k7": b"x", "k8": b"x", "new": b"y"}) == {
        "k7": b"first",
        "k8": bytes(60_000),
        "new": b"y",
    }


# ------------------------------------------------------------------------------------------------------------- lifetime


async def test_expiry_is_the_items_ttl_and_a_lock_leaves_it(store: CosmosStateStore, account: CosmosAccount) -> None:
    await create(store)
    assert {"ttl", "expires"}.isdisjoint(lies(account))
    await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False, ttl_s=900)
    expires = lies(account)["expires"]
    assert 890 < lies(account)["ttl"] <= 901
    assert abs(expires - time.time() - 900) < 60
    await store.lock(TALK, "mine", 60)
    assert (lies(account)["expires"], lies(account)["ttl"] <= 901) == (expires, True)
    await store.lock(Conversation("tenant", "never written"), "mine", 60)
    items = account.items[DATABASE, CONTAINER].replicas["East US"]
    assert 86_000 < (items.log[-1].item or {})["ttl"] <= 86_401


async def test_item_past_its_expiry_that_is_still_there_is_absent(
    store: CosmosStateStore, account: CosmosAccount
) -> None:
    await create(store, pending=True)
    past = {"expires": int(time.time()) - 1, "ttl": 3600}
    account.items[DATABASE, CONTAINER].replace("East US", PARTITION, HEAD, lies(account) | past, None)
    assert await store.versions(TALK) == ABSENT
    assert await store.read(TALK) == Stored(ABSENT, b"", {})
    assert await store.agents("tenant", "session") == []
    assert await store.pending("tenant") == []
    with pytest.raises(StaleWrite):
        await update(store)
    locked = await store.lock(TALK, "mine", 60)
    assert (locked.versions, locked.body) == (Versions(0, 2), b"")  # a version that was used never comes again


# ---------------------------------------------------------------------------------------------------------------- heads


async def test_each_region_writes_an_item_of_its_own_and_last_writer_wins_loses_nothing() -> None:
    async with CosmosAccount("East US", "West US", every_region_writes=True, lag_s=0.2) as account:
        with_container(account)
        east, west = (
            CosmosStateStore(
                options(place.url, account, every_region_writes=True, locations=(place.name,)), head=place.name[:4]
            )
            for place in account.places.values()
        )
        await create(east, pending=True)
        await east.add_entries(TALK, {"k": b"entry"})
        await west.write(TALK, b"west", expect=ABSENT, new=Versions(7, 7), pending=False)
        assert (await west.read(TALK)).others == ()  # not here yet
        await account.settle()
        assert await west.read(TALK) == Stored(
            Versions(7, 7, (("East", 1),)), b"west", {"k": b"entry"}, (OtherHead("East", 1, b"one"),)
        )
        assert (await east.read(TALK)).body == b"one"
        assert (await west.versions(TALK)).others == (("East", 1),)
        assert (await east.lock(TALK, "mine", 60)).others == (OtherHead("West", 7, b"west"),)
        await east.unlock(TALK, "mine")
        await account.settle()
        assert await east.pending("tenant") == [TALK]
        assert await west.pending("tenant") == []
        assert await west.agents("tenant", "session") == ["root"]
        assert account.items[DATABASE, CONTAINER].dropped == 0
        await east.close()
        await west.close()


async def test_regions_that_were_apart_see_each_others_heads_again() -> None:
    async with CosmosAccount("East US", "West US", every_region_writes=True) as account:
        with_container(account)
        east, west = (
            CosmosStateStore(
                options(place.url, account, every_region_writes=True, locations=(place.name,)), head=place.name[:4]
            )
            for place in account.places.values()
        )
        for place in account.places.values():
            place.cut = True
        for step in range(1, 4):
            for store in (east, west):
                await store.write(
                    TALK, b"x", expect=Versions(step - 1, step - 1), new=Versions(step, step), pending=False
                )
        assert (await east.versions(TALK)).others == ()
        for place in account.places.values():
            place.cut = False
        await account.settle()
        assert (await east.versions(TALK)).others == (("West", 3),)
        assert (await west.versions(TALK)).others == (("East", 3),)
        assert account.items[DATABASE, CONTAINER].dropped == 0
        await east.close()
        await west.close()


async def test_the_anomaly_that_heads_are_for() -> None:
    """Two regions that write one item: both are told that they succeeded, and one write is gone."""
    async with CosmosAccount("East US", "West US", every_region_writes=True, lag_s=0.1) as account:
        with_container(account)
        east, west = (
            CosmosStateStore(options(place.url, account, every_region_writes=True, locations=(place.name,)))
            for place in account.places.values()
        )
        await create(east)
        await west.write(TALK, b"west", expect=ABSENT, new=Versions(1, 1), pending=False)
        await account.settle()
        assert (await east.read(TALK)).body == (await west.read(TALK)).body == b"west"
        assert account.items[DATABASE, CONTAINER].dropped > 0
        await east.close()
        await west.close()


# --------------------------------------------------------------------------------------------------------- large things


async def test_body_too_large_for_an_item_is_refused_for_sure(store: CosmosStateStore) -> None:
    await create(store)
    with (
        pytest.warns(ResourceWarning, match="Sending a large body"),
        pytest.raises(StoreUnavailable, match="413: larger than the 2 MB of an item") as refused,
    ):
        await store.write(TALK, bytes(2_000_000), expect=Versions(1, 1), new=Versions(2, 2), pending=False)
    assert refused.value.definite
    assert await store.versions(TALK) == Versions(1, 1)


async def test_value_of_which_a_chunk_is_missing_is_none(store: CosmosStateStore, account: CosmosAccount) -> None:
    await store.put_chunks(TALK, "blob", bytes(3 * CHUNK_BYTES))
    account.items[DATABASE, CONTAINER].delete("East US", PARTITION, chunk_id("root", "blob", 2), None)
    assert await store.get_chunks(TALK, "blob") is None
    await store.put_chunks(TALK, "blob", bytes(3 * CHUNK_BYTES))
    assert await store.get_chunks(TALK, "blob") == bytes(3 * CHUNK_BYTES)
    with pytest.raises(AlreadyWritten):
        await store.put_chunks(TALK, "blob", b"other")


async def test_agents_are_found_among_ledgers_and_chunks(store: CosmosStateStore) -> None:
    """More of everything than a page of the walk."""
    talks = [Conversation("tenant", "session", f"agent-{number:02}") for number in range(12)]
    for number, talk in enumerate(talks):
        await store.add_entries(talk, {f"k{entry}": b"entry" for entry in range(5 * (number % 3))})
        if number % 4 == 1:
            await store.put_chunks(talk, "blob", bytes(2 * CHUNK_BYTES))
        if number % 2:
            await create(store, talk)
    await store.add_entries(talks[0], {f"many{entry}": b"entry" for entry in range(60)})
    await create(store, TALK)
    assert await store.agents("tenant", "session") == ["root", *(talk.agent for talk in talks[1::2])]


# ---------------------------------------------------------------------------------------------------------------- input


async def test_cursor_that_no_page_gave(store: CosmosStateStore) -> None:
    for cursor in ("x", "g:a.b", "0", "0:"):
        with pytest.raises(ValueError, match="pass the `next` of the page before"):
            await store.sessions("tenant", after=cursor)


async def test_empty_body_is_refused(store: CosmosStateStore) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        await store.write(TALK, b"", expect=ABSENT, new=Versions(1, 1), pending=False)


async def test_container_as_the_operator_makes_it_is_one_that_the_store_can_search(account: CosmosAccount) -> None:
    """Nothing that the store asks for needs a scan: the stand-in refuses those."""
    assert account.databases[DATABASE][CONTAINER]["indexingPolicy"] == container_definition()["indexingPolicy"]
