"""The conformance suite of :class:`ObjectStore`."""

from collections.abc import AsyncIterator
from typing import ClassVar
from uuid import uuid4

import pytest

from agentmemory_sidecar.stores.protocols import AlreadyWritten, ObjectStore
from tests.sidecar.stores.conformance.backends import OBJECTS, Backend


def fresh() -> str:
    """A key prefix that no other test has used."""
    return f"tenant-{uuid4().hex}/"


class ObjectConformance:
    """Subclass with ``backend`` set to a name in ``backends.OBJECTS``."""

    backend: ClassVar[str]

    @pytest.fixture
    async def at(self, request: pytest.FixtureRequest) -> AsyncIterator[Backend[ObjectStore]]:
        async with OBJECTS[self.backend](request) as backend:
            yield backend

    @pytest.fixture
    def store(self, at: Backend[ObjectStore]) -> ObjectStore:
        return at.store

    async def test_put_and_get(self, store: ObjectStore) -> None:
        key = fresh() + "1"
        assert await store.get(key) is None
        await store.put({key: b"one"})
        assert await store.get(key) == b"one"

    async def test_an_object_is_written_once(self, store: ObjectStore) -> None:
        key = fresh() + "1"
        await store.put({key: b"one"})
        await store.put({key: b"one"})
        with pytest.raises(AlreadyWritten):
            await store.put({key: b"two"})
        assert await store.get(key) == b"one"
