"""The conformance suite of :class:`ObjectStore`."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar
from uuid import uuid4

import pytest

from agentmemory_sidecar.stores.protocols import AlreadyWritten, ObjectStore, StoreUnavailable
from tests.sidecar.stores.conformance.backends import OBJECTS, Backend

ODD_KEYS = [
    "a b",
    "a%20b",
    "a+b",
    "a#b",
    "a?b=c&d",
    "a{b}",
    "a'b\"c",
    "ä",
    "日本/語",
    "🙂",
    "a//b",
    "a:b",
    "a~b",
    "x" * 300,
]


def fresh() -> str:
    """A key prefix that no other test has used."""
    return f"tenant-{uuid4().hex}/"


async def listed(store: ObjectStore, prefix: str) -> list[str]:
    return [key async for key in store.keys(prefix)]


class ObjectConformance:
    """Subclass with ``backend`` set to a name in ``backends.OBJECTS``."""

    backend: ClassVar[str]

    @pytest.fixture
    def opening(self, request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Backend[ObjectStore]]:
        return OBJECTS[self.backend](request)

    @pytest.fixture
    async def at(
        self, opening: AbstractAsyncContextManager[Backend[ObjectStore]]
    ) -> AsyncIterator[Backend[ObjectStore]]:
        async with opening as backend:
            yield backend

    @pytest.fixture
    def store(self, at: Backend[ObjectStore]) -> ObjectStore:
        return at.store

    async def test_put_and_get(self, at: Backend[ObjectStore]) -> None:
        key = fresh() + "1"
        assert await at.store.get(key) is None
        await at.store.put({key: b"one"})
        assert await at.second().get(key) == b"one"

    async def test_several_at_once(self, store: ObjectStore) -> None:
        objects = {fresh() + str(number): os.urandom(number) for number in range(1, 20)}
        await store.put(objects)
        assert {key: await store.get(key) for key in objects} == objects
        await store.put({})

    async def test_the_same_bytes_again_are_fine(self, store: ObjectStore) -> None:
        prefix = fresh()
        await store.put({f"{prefix}1": b"one"})
        await store.put({f"{prefix}1": b"one", f"{prefix}2": b"two"})
        assert await store.get(f"{prefix}2") == b"two"

    @pytest.mark.parametrize("other", [b"two", b"one more", b"on", b""], ids=repr)
    async def test_other_bytes_are_refused(self, store: ObjectStore, other: bytes) -> None:
        key = fresh() + "1"
        await store.put({key: b"one"})
        with pytest.raises(AlreadyWritten):
            await store.put({key: other})
        assert await store.get(key) == b"one"

    async def test_an_object_may_be_empty_or_hold_any_byte(self, store: ObjectStore) -> None:
        prefix = fresh()
        objects = {f"{prefix}empty": b"", f"{prefix}bytes": bytes(range(256))}
        await store.put(objects)
        assert {key: await store.get(key) for key in objects} == objects

    async def test_an_object_of_six_megabytes(self, store: ObjectStore) -> None:
        key, data = fresh() + "1", os.urandom(6_000_000)
        await store.put({key: data})
        assert await store.get(key) == data

    async def test_of_different_objects_for_one_key_one_stays(self, at: Backend[ObjectStore]) -> None:
        key, other = fresh() + "1", at.second()

        async def attempt(number: int) -> bytes | None:
            data = str(number).encode()
            try:
                await (at.store if number % 2 else other).put({key: data})
            except AlreadyWritten:
                return None
            return data

        winners = [data for data in await asyncio.gather(*map(attempt, range(8))) if data is not None]
        assert winners == [await at.store.get(key)]

    async def test_writers_of_the_same_objects_all_succeed(self, at: Backend[ObjectStore]) -> None:
        prefix, other = fresh(), at.second()
        keys = [f"{prefix}{number}" for number in range(8)]

        async def attempt(number: int) -> None:
            order = keys[number:] + keys[:number]
            await (at.store if number % 2 else other).put({key: key.encode() for key in order})

        await asyncio.gather(*map(attempt, range(8)))
        assert [await at.store.get(key) for key in keys] == [key.encode() for key in keys]

    async def test_keys_come_in_byte_order(self, store: ObjectStore) -> None:
        prefix = fresh()
        keys = [prefix + name for name in ("b", "a", "B", "a/b", "a-b", "ä", "z", "10", "9", "🙂", "\uffff", "_")]
        await store.put(dict.fromkeys(keys, b"x"))
        assert await listed(store, prefix) == sorted(keys, key=str.encode)

    async def test_keys_by_prefix(self, store: ObjectStore) -> None:
        prefix = fresh()
        await store.put(dict.fromkeys([prefix + name for name in ("a/1", "a/2", "a", "ab/1", "b/1", "A/1")], b"x"))
        assert await listed(store, f"{prefix}a/") == [f"{prefix}a/1", f"{prefix}a/2"]
        assert await listed(store, f"{prefix}a") == [prefix + name for name in ("a", "a/1", "a/2", "ab/1")]
        assert await listed(store, f"{prefix}c") == []

    @pytest.mark.parametrize("wild", ["%", "_", "*", "\\"])
    async def test_a_prefix_is_no_pattern(self, store: ObjectStore, wild: str) -> None:
        prefix = fresh()
        await store.put({f"{prefix}abc": b"x"})
        assert await listed(store, f"{prefix}a{wild}") == []

    async def test_keys_of_more_than_one_page(self, store: ObjectStore) -> None:
        prefix = fresh()
        keys = [f"{prefix}{number:06}" for number in range(1203)]
        for first in range(0, len(keys), 100):
            await store.put(dict.fromkeys(keys[first : first + 100], b"x"))
        assert await listed(store, prefix) == keys
        first_only = store.keys(prefix)
        assert await anext(first_only) == keys[0]

    async def test_odd_keys_are_kept_apart(self, store: ObjectStore) -> None:
        prefix = fresh()
        objects = {prefix + odd: odd.encode() for odd in ODD_KEYS}
        await store.put(objects)
        assert {key: await store.get(key) for key in objects} == objects
        assert set(await listed(store, prefix)) == objects.keys()

    async def test_an_outage_is_reported_by_every_call_and_ends_with_it(self, at: Backend[ObjectStore]) -> None:
        store, prefix = at.store, fresh()
        await store.put({f"{prefix}1": b"one"})
        async with at.outage():
            for call in (
                lambda: store.put({f"{prefix}2": b"two"}),
                lambda: store.get(f"{prefix}1"),
                lambda: listed(store, prefix),
                lambda: store.ping(),
            ):
                with pytest.raises(StoreUnavailable):
                    await call()
        await store.ping()
        assert await store.get(f"{prefix}1") == b"one"
        await store.put({f"{prefix}2": b"two"})
        assert await listed(store, prefix) == [f"{prefix}1", f"{prefix}2"]

    async def test_an_object_whose_answer_is_lost_is_there_and_may_be_put_again(self, at: Backend[ObjectStore]) -> None:
        prefix = fresh()
        await at.store.put({f"{prefix}1": b"one"})  # whatever precedes a store's first write is done with
        await at.lose_next_answer()
        with pytest.raises(StoreUnavailable) as lost:
            await at.store.put({f"{prefix}2": b"two"})
        assert not lost.value.definite
        assert await at.store.get(f"{prefix}2") == b"two"
        await at.store.put({f"{prefix}2": b"two"})

    async def test_a_closed_store_answers_nothing(self, at: Backend[ObjectStore]) -> None:
        store = at.second()
        await store.ping()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.get(fresh())
