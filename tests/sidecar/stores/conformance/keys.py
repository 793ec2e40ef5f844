"""The conformance suite of :class:`KeyShelf`, and of the key store on it: what matters is that pods agree."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import ClassVar
from uuid import uuid4

import pytest

from agentmemory_sidecar.archive.keys import KeyUnavailable
from agentmemory_sidecar.archive.shared_keys import SharedKeyStore
from agentmemory_sidecar.stores.protocols import KeyShelf, StateStore, StoreUnavailable, WrappedKey
from tests.sidecar.stores.conformance.backends import STATE, Backend


def tenant() -> str:
    """One that no other test has used."""
    return f"tenant-{uuid4().hex}"


class KeyConformance:
    """Subclass with ``backend`` set to a name in ``backends.STATE``, and :meth:`shelf_of`."""

    backend: ClassVar[str]

    def shelf_of(self, state: StateStore) -> KeyShelf:
        raise NotImplementedError

    @pytest.fixture
    async def at(self, request: pytest.FixtureRequest) -> AsyncIterator[Backend[StateStore]]:
        async with STATE[self.backend](request) as backend:
            yield backend

    @pytest.fixture
    def another(self, at: Backend[StateStore]) -> Callable[[], KeyShelf]:
        return lambda: self.shelf_of(at.second())

    @pytest.fixture
    def shelf(self, at: Backend[StateStore]) -> KeyShelf:
        return self.shelf_of(at.store)

    async def test_first_writer_stands(self, shelf: KeyShelf, another: Callable[[], KeyShelf]) -> None:
        t = tenant()
        assert await shelf.put(t, "u", WrappedKey(1, b"first")) == WrappedKey(1, b"first")
        assert await another().put(t, "u", WrappedKey(1, b"second")) == WrappedKey(1, b"first")
        assert await another().keys(t, "u") == [WrappedKey(1, b"first")]

    async def test_generations_come_in_their_order(self, shelf: KeyShelf) -> None:
        t, large = tenant(), (0xFFFF << 16) | 2
        for key in (WrappedKey(large, b"c"), WrappedKey(1, b""), WrappedKey(10, b"b"), WrappedKey(2, b"a")):
            await shelf.put(t, "u", key)
        assert [key.generation for key in await shelf.keys(t, "u")] == [1, 2, 10, large]
        assert (await shelf.keys(t, "u"))[0].data == b""

    async def test_names_are_kept_apart(self, shelf: KeyShelf) -> None:
        t = tenant()
        names = [
            (t, "user:a/b"),
            (t, "user:a"),
            (f"{t}/user:a", "b"),
            (f"{t}#user:a", "b"),
            (t, "user:a#b"),
            (t, "ü%2F"),
        ]
        for number, name in enumerate(names):
            await shelf.put(*name, WrappedKey(1, b"%d" % number))
        found = [await shelf.keys(*name) for name in names]
        assert found == [[WrappedKey(1, b"%d" % number)] for number in range(len(names))]
        assert await shelf.keys(t, "user:") == []

    async def test_writers_at_once_are_told_the_same(self, shelf: KeyShelf, another: Callable[[], KeyShelf]) -> None:
        t, shelves = tenant(), [shelf, *(another() for _ in range(3))]
        async with asyncio.TaskGroup() as group:
            told = [
                group.create_task(each.put(t, "u", WrappedKey(1, b"%d" % number)))
                for number, each in enumerate(shelves * 3)
            ]
        assert len({one.result() for one in told}) == 1

    async def test_outage_is_told_and_passes(self, at: Backend[StateStore], shelf: KeyShelf) -> None:
        t = tenant()
        async with at.outage():
            for call in (shelf.keys(t, "u"), shelf.put(t, "u", WrappedKey(1, b"x"))):
                with pytest.raises(StoreUnavailable):
                    await call
            with pytest.raises(KeyUnavailable, match="the sealing keys are in the state tier, which is away"):
                await SharedKeyStore(shelf, os.urandom(32)).key(t, "u")
        assert await shelf.keys(t, "u") == []

    async def test_lost_answer_is_in_doubt_and_was_stored(self, at: Backend[StateStore], shelf: KeyShelf) -> None:
        t = tenant()
        await shelf.put(t, "v", WrappedKey(1, b"x"))  # connection and statement: it is the write's answer that is lost
        await at.lose_next_answer()
        with pytest.raises(StoreUnavailable) as lost:
            await shelf.put(t, "u", WrappedKey(1, b"x"))
        assert not lost.value.definite
        assert await shelf.put(t, "u", WrappedKey(1, b"y")) == WrappedKey(1, b"x")

    async def test_pods_that_meet_a_subject_at_once_agree_on_its_key(
        self, shelf: KeyShelf, another: Callable[[], KeyShelf]
    ) -> None:
        t, master = tenant(), os.urandom(32)
        pods = [SharedKeyStore(one, master) for one in (shelf, *(another() for _ in range(3)))]
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(pod.key(t, "user:a")) for pod in pods * 3]
        keys = {one.result() for one in asked}
        assert len(keys) == 1
        assert await SharedKeyStore(another(), master).find(t, "user:a", 1) == keys.pop()
