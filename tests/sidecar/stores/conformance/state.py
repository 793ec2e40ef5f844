"""The conformance suite of :class:`StateStore`."""

from collections.abc import AsyncIterator
from typing import ClassVar
from uuid import uuid4

import pytest

from agentmemory_sidecar.stores.protocols import ABSENT, Conversation, StaleWrite, StateStore, Stored, Versions
from tests.sidecar.stores.conformance.backends import STATE, Backend


def fresh(session: str = "s", agent: str = "root") -> Conversation:
    """A conversation of a tenant that no other test has seen."""
    return Conversation(f"tenant-{uuid4().hex}", session, agent)


class StateConformance:
    """Subclass with ``backend`` set to a name in ``backends.STATE``."""

    backend: ClassVar[str]

    @pytest.fixture
    async def at(self, request: pytest.FixtureRequest) -> AsyncIterator[Backend[StateStore]]:
        async with STATE[self.backend](request) as backend:
            yield backend

    @pytest.fixture
    def store(self, at: Backend[StateStore]) -> StateStore:
        return at.store

    async def test_an_item_never_written_is_absent(self, store: StateStore) -> None:
        talk = fresh()
        assert await store.read(talk) == Stored(ABSENT, b"", {})
        assert await store.versions(talk) == ABSENT

    async def test_create_and_update_are_conditional(self, store: StateStore) -> None:
        talk = fresh()
        await store.write(talk, b"one", expect=ABSENT, new=Versions(1, 1), pending=False)
        assert await store.read(talk) == Stored(Versions(1, 1), b"one", {})
        await store.write(talk, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
        assert await store.read(talk) == Stored(Versions(2, 2), b"two", {})
        with pytest.raises(StaleWrite):
            await store.write(talk, b"again", expect=ABSENT, new=Versions(1, 1), pending=False)
        assert await store.read(talk) == Stored(Versions(2, 2), b"two", {})
