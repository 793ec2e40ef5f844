"""Keys that the pods of a resource share: decisions, wrapping, and what a pod does without its master or its tier."""

import os
from collections.abc import AsyncIterator, Sequence

import pytest
from botocore.session import Session

from agentmemory_sidecar.archive.keys import KeyUnavailable
from agentmemory_sidecar.archive.shared_keys import (
    LOOK_AGAIN_S,
    SharedKeyStore,
    first_generation,
    next_generation,
    sealing,
)
from agentmemory_sidecar.stores.postgres import PostgresKeyShelf, PostgresOptions, PostgresStateStore
from agentmemory_sidecar.stores.protocols import KeyShelf, WrappedKey
from tests.sidecar.stores.conformance.keys import tenant

MASTER = bytes(range(32))
EAST, WEST = first_generation("us-east-1"), first_generation("us-west-2")


@pytest.fixture
async def shelf(dsn: str) -> AsyncIterator[KeyShelf]:
    """In the session's Postgres; tests keep apart by their tenants."""
    state = PostgresStateStore(PostgresOptions(dsn))
    yield PostgresKeyShelf(state.pool)
    await state.close()


def test_no_two_regions_of_aws_share_their_generations() -> None:
    session = Session()
    regions = {
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("dynamodb", partition, allow_non_regional=True)
    }
    assert len(regions) > 30
    firsts = {first_generation(region) for region in regions}
    assert len(firsts) == len(regions)
    assert 1 not in firsts
    assert max(firsts) < 1 << 32


@pytest.mark.parametrize(
    ("keys", "seals", "following"),
    [
        ([], None, 1),
        ([(1, "a")], 1, 2),
        ([(1, "")], None, 2),
        ([(1, ""), (2, "b")], 2, 3),
        ([(1, ""), (2, "")], None, 3),
        ([(EAST, "a"), (WEST, "b")], min(EAST, WEST), 2),
        ([(EAST, ""), (WEST, "b")], None, 2),
        ([(EAST, ""), (WEST, ""), (WEST + 1, "b")], WEST + 1, 3),
    ],
)
def test_which_key_seals_and_which_is_made_next(keys: list[tuple[int, str]], seals: int | None, following: int) -> None:
    rows = [WrappedKey(generation, data.encode()) for generation, data in keys]
    for order in (rows, rows[::-1]):
        chosen = sealing(order)
        assert (chosen.generation if chosen else None) == seals
        assert next_generation(order, 1) == following


async def test_each_subject_of_each_tenant_has_its_own(shelf: KeyShelf) -> None:
    store, t = SharedKeyStore(shelf, MASTER), tenant()
    found = [await store.key(*who) for who in ((t, "a"), (t, "b"), (f"{t}2", "a"))]
    assert len({key.secret for key in found}) == 3
    assert {(key.generation, len(key.secret)) for key in found} == {(1, 32)}


async def test_shelf_holds_no_key_in_clear(shelf: KeyShelf) -> None:
    t = tenant()
    key = await SharedKeyStore(shelf, MASTER).key(t, "a")
    (wrapped,) = await shelf.keys(t, "a")
    assert key.secret not in wrapped.data
    assert MASTER not in wrapped.data


async def test_key_that_was_never_made_is_not_found(shelf: KeyShelf) -> None:
    store, t = SharedKeyStore(shelf, MASTER), tenant()
    await store.key(t, "a")
    assert await store.find(t, "nobody", 1) is None
    assert await store.find(t, "a", 2) is None


async def test_master_of_another_resource_opens_nothing_and_makes_no_other(shelf: KeyShelf) -> None:
    t = tenant()
    key = await SharedKeyStore(shelf, MASTER).key(t, "a")
    other = SharedKeyStore(shelf, os.urandom(32))
    for call in (other.key(t, "a"), other.find(t, "a", 1)):
        with pytest.raises(KeyUnavailable, match="does not open with this master key: give the resource the one"):
            await call
    assert await SharedKeyStore(shelf, MASTER).key(t, "a") == key


async def test_key_of_another_subject_in_its_place_is_no_key(shelf: KeyShelf) -> None:
    t = tenant()
    await SharedKeyStore(shelf, MASTER).key(t, "a")
    (wrapped,) = await shelf.keys(t, "a")
    await shelf.put(t, "b", wrapped)
    with pytest.raises(KeyUnavailable):
        await SharedKeyStore(shelf, MASTER).key(t, "b")


async def test_key_wrapped_in_a_later_way_asks_for_a_newer_release(shelf: KeyShelf) -> None:
    t = tenant()
    await shelf.put(t, "a", WrappedKey(1, b"\x02by a key management service"))
    with pytest.raises(KeyUnavailable, match="use a newer one"):
        await SharedKeyStore(shelf, MASTER).key(t, "a")


async def test_subject_that_comes_back_after_an_erasure_gets_another_key(shelf: KeyShelf) -> None:
    t = tenant()
    await shelf.put(t, "a", WrappedKey(1, b""))
    store = SharedKeyStore(shelf, MASTER)
    assert (await store.key(t, "a")).generation == 2
    assert await store.find(t, "a", 1) is None
    assert (await SharedKeyStore(shelf, MASTER).key(t, "a")).generation == 2


async def test_endpoints_that_do_not_see_each_other_yet_lose_no_key(shelf: KeyShelf) -> None:
    """Each makes its own; what they wrote comes to lie side by side, and from then on both seal with the same."""
    here, there, t = tenant(), tenant(), "t"
    east = await SharedKeyStore(Renamed(shelf, here), MASTER, head="us-east-1").key(t, "a")
    west = await SharedKeyStore(Renamed(shelf, there), MASTER, head="us-west-2").key(t, "a")
    for source, target in ((here, there), (there, here)):
        for key in await shelf.keys(source, "a"):
            await shelf.put(target, "a", key)

    assert {east.generation, west.generation} == {EAST, WEST}
    for place, head in ((here, "us-east-1"), (there, "us-west-2")):
        store = SharedKeyStore(Renamed(shelf, place), MASTER, head=head)
        assert await store.find(t, "a", EAST) == east
        assert await store.find(t, "a", WEST) == west
        assert (await store.key(t, "a")).generation == min(EAST, WEST)


class Renamed:
    """One region's sight of the shelf: the real one, with every subject under the tenant ``place``."""

    def __init__(self, shelf: KeyShelf, place: str) -> None:
        self.shelf, self.place = shelf, place
        self.calls: list[str] = []

    async def keys(self, tenant: str, subject: str) -> Sequence[WrappedKey]:
        self.calls.append("keys")
        return await self.shelf.keys(self.place, subject)

    async def put(self, tenant: str, subject: str, key: WrappedKey) -> WrappedKey:
        self.calls.append("put")
        return await self.shelf.put(self.place, subject, key)


async def test_key_in_use_is_looked_up_again_after_a_while(shelf: KeyShelf) -> None:
    now = 0.0
    seen, t = Renamed(shelf, tenant()), "t"
    store = SharedKeyStore(seen, MASTER, clock=lambda: now)
    await store.key(t, "a")
    assert seen.calls == ["keys", "put", "keys"]
    for _ in range(3):
        assert (await store.find(t, "a", 1)) == await store.key(t, "a")
    assert len(seen.calls) == 3
    now = LOOK_AGAIN_S
    await store.key(t, "a")
    assert seen.calls[3:] == ["keys"]
