"""The models are what they stand for: they pass the conformance suites of the real stores."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    Begun,
    Conversation,
    HotCopy,
    HotStore,
    KeyShelf,
    ObjectStore,
    StaleWrite,
    StateStore,
    Versions,
)
from tests.histories import loop
from tests.histories.hot import ModelHotStore, ModelRedis
from tests.histories.links import Kind, Link, Planned
from tests.histories.objects import Buckets, ModelObjects
from tests.histories.state import ModelKeyShelf, ModelStateStore
from tests.histories.table import Table
from tests.sidecar.stores.conformance.backends import OBJECTS, STATE, Backend
from tests.sidecar.stores.conformance.keys import KeyConformance
from tests.sidecar.stores.conformance.objects import ObjectConformance
from tests.sidecar.stores.conformance.state import StateConformance
from tests.sidecar.stores.hot_conformance import HERE, HotConformance, begun, claim

EAST, WEST = "us-east-1", "us-west-2"


class _NoTimers:
    """For one region: nothing is ever under way."""

    time = staticmethod(time.time)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object:
        raise AssertionError("there is no other region")


class _ModelBackend:
    """Stores that share what they hold and one link, which is what fails."""

    def __init__(self, make: Callable[[Link], Any], store: str) -> None:
        self._make, self._name, self._link = make, store, Link()
        self.store = make(self._link)

    def second(self) -> Any:
        return self._make(self._link)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self._link.down.add(self._name)
        try:
            yield
        finally:
            self._link.down.clear()

    async def lose_next_answer(self) -> None:
        self._link.planned.append(Planned(Kind.LOST))


@asynccontextmanager
async def _state(request: pytest.FixtureRequest) -> AsyncIterator[Backend[StateStore]]:
    table = Table((EAST,), _NoTimers())
    yield _ModelBackend(lambda link: ModelStateStore(table, EAST, time.time, head="main", link=link), "state")


@asynccontextmanager
async def _objects(request: pytest.FixtureRequest) -> AsyncIterator[Backend[ObjectStore]]:
    buckets = Buckets((EAST,), _NoTimers())
    yield _ModelBackend(lambda link: ModelObjects(buckets, EAST, "records", link=link), "records")


STATE["model"] = _state
OBJECTS["model"] = _objects


class TestState(StateConformance):
    backend = "model"


class TestObjects(ObjectConformance):
    backend = "model"


class TestKeys(KeyConformance):
    backend = "model"

    def shelf_of(self, state: StateStore) -> KeyShelf:
        assert isinstance(state, ModelStateStore)
        return ModelKeyShelf(state._table, EAST, state._link)


class TestHot(HotConformance):
    @pytest.fixture
    def server(self) -> ModelRedis:
        return ModelRedis(time.time)

    @pytest.fixture
    async def hot(self, server: ModelRedis) -> AsyncIterator[HotStore]:
        store = ModelHotStore(server)
        yield store
        await store.close()

    async def test_closing_sends_the_last_acknowledgements(self, hot: HotStore, server: ModelRedis) -> None:  # type: ignore[override]
        await hot.acknowledge(HERE, "last", 60_000)
        await hot.close()
        assert (await ModelHotStore(server).peek(HERE)).acknowledged == "last"

    async def test_every_key_has_the_tag_and_an_end(self, hot: HotStore, server: ModelRedis) -> None:  # type: ignore[override]
        """The model has no keys; what lies under each conversation ends."""
        await begun(hot, claim("1"))
        await hot.freeze(HERE, "k1", b"e")
        assert await hot.commit(HERE, claim("1").token, HotCopy(Versions(1, 1), b"b", 2), {"k2": b"e"}, "h")
        await hot.note(HERE, b"n")
        await hot.peek(HERE, compaction=True)
        await hot.acknowledge(HERE, "s", 600_000)
        await hot.close()
        kept = server.kept[HERE]
        ends = {"lock": kept.lock[1], "hot": kept.hot[1], "ledger": kept.ledger[1], "ack": kept.ack[1]}
        ends |= {"notes": kept.notes[1], "mark": kept.mark}
        left = {name: end - time.time() for name, end in ends.items()}
        most = {"lock": 60, "hot": 900, "ledger": 86_400, "ack": 600, "notes": 86_400, "mark": 86_400}
        assert all(0 < left[name] <= most[name] for name in most), left

    async def test_a_restarted_server_s_copy_is_not_trusted(self, hot: HotStore, server: ModelRedis) -> None:
        await begun(hot, claim("1"))
        assert await hot.commit(HERE, claim("1").token, HotCopy(Versions(1, 1), b"b", 0), {})
        server.restart()
        assert (await begun(hot, claim("2"))).copy is None


# ------------------------------------------------------------------------------------------------- what regions add


@pytest.fixture
def virtual() -> Iterator[loop.VirtualLoop]:
    made = loop.VirtualLoop()
    yield made
    made.close()


def _two(timers: loop.VirtualLoop, lag_s: float = 1.0) -> tuple[Table, ModelStateStore, ModelStateStore]:
    table = Table((EAST, WEST), timers, random.Random(1), lag_s)
    return table, *(ModelStateStore(table, region, timers.time) for region in (EAST, WEST))  # type: ignore[return-value]


TALK = Conversation("t", "s")


def test_two_regions_accept_the_same_version_and_one_is_lost(virtual: loop.VirtualLoop) -> None:
    """The anomaly that heads are for: here both write one item."""
    table = Table((EAST, WEST), virtual, random.Random(1), 1.0)
    stores = [ModelStateStore(table, region, virtual.time, head="main") for region in (EAST, WEST)]
    for store, body in zip(stores, (b"east", b"west"), strict=True):
        virtual.run_until_complete(store.write(TALK, body, expect=ABSENT, new=Versions(1, 1), pending=False))
    virtual.run_until(lambda: table.settled)
    found = [virtual.run_until_complete(store.read(TALK)) for store in stores]
    assert found[0] == found[1]
    assert found[0].body in (b"east", b"west")


def test_heads_come_over_after_a_while_and_not_through_a_cut(virtual: loop.VirtualLoop) -> None:
    table, east, west = _two(virtual)

    async def history() -> None:
        table.part(EAST, WEST)
        await east.write(TALK, b"one", expect=ABSENT, new=Versions(1, 1), pending=False)
        await asyncio.sleep(60)
        assert (await west.read(TALK)).others == ()
        table.heal()
        await asyncio.sleep(60)
        (other,) = (await west.read(TALK)).others
        assert (other.head, other.version, other.body) == (EAST, 1, b"one")
        assert (await west.versions(TALK)).others == ((EAST, 1),)
        assert await west.versions(TALK) == ABSENT
        await west.write(TALK, b"two", expect=ABSENT, new=Versions(1, 1), pending=True)
        with pytest.raises(StaleWrite):
            await west.write(TALK, b"again", expect=ABSENT, new=Versions(1, 1), pending=True)
        assert (await west.pending("t"), await east.pending("t")) == ([TALK], [])
        await asyncio.sleep(60)
        assert [other.body for other in (await east.read(TALK)).others] == [b"two"]

    virtual.run_until_complete(history())


def test_of_two_entries_of_one_key_the_later_stands_everywhere(virtual: loop.VirtualLoop) -> None:
    table, east, west = _two(virtual)

    async def history() -> None:
        table.part(EAST, WEST)
        assert await east.add_entries(TALK, {"k": b"east"}) == {"k": b"east"}
        await asyncio.sleep(1)
        assert await west.add_entries(TALK, {"k": b"west"}) == {"k": b"west"}
        table.heal()
        await asyncio.sleep(60)
        assert (await east.read(TALK)).ledger == (await west.read(TALK)).ledger == {"k": b"west"}

    virtual.run_until_complete(history())


def test_a_lock_missed_by_a_renewal_is_the_same_request_s(virtual: loop.VirtualLoop) -> None:
    hot = ModelHotStore(ModelRedis(virtual.time))

    async def history() -> None:
        assert isinstance(await hot.begin(HERE, claim("1")), Begun)
        await asyncio.sleep(26)
        second = await hot.begin(HERE, claim("2"))
        assert isinstance(second, Begun)
        assert second.took_over

    virtual.run_until_complete(history())
