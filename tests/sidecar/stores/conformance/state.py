"""The conformance suite of :class:`StateStore`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    ROOT,
    Conversation,
    Locked,
    StateStore,
    Stored,
    StoreUnavailable,
    Versions,
)
from tests.sidecar.stores.conformance.backends import STATE, Backend
from tests.sidecar.stores.conformance.state_items import ItemConformance
from tests.sidecar.stores.conformance.state_locks import LockConformance
from tests.sidecar.stores.conformance.talks import create, fresh, update


class StateConformance(ItemConformance, LockConformance):
    """Subclass with ``backend`` set to a name in ``backends.STATE``."""

    backend: ClassVar[str]

    @pytest.fixture
    def opening(self, request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Backend[StateStore]]:
        return STATE[self.backend](request)

    @pytest.fixture
    async def at(self, opening: AbstractAsyncContextManager[Backend[StateStore]]) -> AsyncIterator[Backend[StateStore]]:
        async with opening as backend:
            yield backend

    @pytest.fixture
    def store(self, at: Backend[StateStore]) -> StateStore:
        return at.store

    # --------------------------------------------------------------------------------------------------------- listings

    async def test_the_index_is_read_in_pages(self, store: StateStore) -> None:
        tenant = fresh().tenant
        rows = {(f"user {number % 3}", f"session/{number}") for number in range(25)}
        for subject, session in rows:
            await store.index(tenant, subject, session)
        await store.index(tenant, "user 0", "session/0")
        await store.index(f"{tenant}x", "user 0", "session/of another tenant")
        seen: list[tuple[str, str]] = []
        after = ""
        while True:
            page = await store.sessions(tenant, after=after, limit=4)
            assert len(page.rows) <= 4
            seen += page.rows
            if not (after := page.next):
                break
        assert len(seen) == 25
        assert set(seen) == rows

    async def test_the_index_of_one_subject(self, store: StateStore) -> None:
        tenant = fresh().tenant
        for subject, session in [("u", "a"), ("u", "b"), ("u", "c"), ("u2", "d"), ("", "e")]:
            if subject:
                await store.index(tenant, subject, session)
        first = await store.sessions(tenant, subject="u", limit=2)
        rest = await store.sessions(tenant, subject="u", limit=2, after=first.next)
        assert sorted([*first.rows, *rest.rows]) == [("u", "a"), ("u", "b"), ("u", "c")]
        assert rest.next == ""
        assert (await store.sessions(tenant, subject="nobody")).rows == []

    async def test_agents_of_a_session(self, store: StateStore) -> None:
        talk = fresh()
        for agent in ("zoe", "abe", ROOT):
            await create(store, Conversation(talk.tenant, "s", agent))
        await create(store, Conversation(talk.tenant, "s2", "of another session"))
        agents = await store.agents(talk.tenant, "s")
        assert agents[0] == ROOT
        assert sorted(agents) == ["abe", ROOT, "zoe"]
        assert await store.agents(talk.tenant, "never") == []

    async def test_pending_is_set_and_cleared_by_writes(self, store: StateStore) -> None:
        talk = fresh()
        sub = Conversation(talk.tenant, "s2", "sub")
        await create(store, talk, pending=True)
        await create(store, sub, pending=True)
        await create(store, Conversation(talk.tenant, "s3"))
        assert set(await store.pending(talk.tenant)) == {talk, sub}
        assert len(await store.pending(talk.tenant, limit=1)) == 1
        await update(store, talk, b"two", 2)
        assert await store.pending(talk.tenant) == [sub]
        await update(store, talk, b"three", 3, pending=True)
        assert set(await store.pending(talk.tenant)) == {talk, sub}

    async def test_a_lock_leaves_pending_as_it_is(self, store: StateStore) -> None:
        talk = fresh()
        await create(store, talk, pending=True)
        await store.lock(talk, "mine", 60)
        assert await store.pending(talk.tenant) == [talk]

    # ----------------------------------------------------------------------------------------------------------- faults

    async def test_an_outage_is_reported_by_every_call_and_ends_with_it(self, at: Backend[StateStore]) -> None:
        store, talk = at.store, fresh()
        await create(store, talk)
        await store.put_chunks(talk, "n", b"data")
        async with at.outage():
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: store.versions(talk),
                lambda: store.read(talk),
                lambda: update(store, talk, b"lost", 2),
                lambda: store.add_entries(talk, {"k": b"entry"}),
                lambda: store.lock(talk, "mine", 60),
                lambda: store.unlock(talk, "mine"),
                lambda: store.put_chunks(talk, "n", b"data"),
                lambda: store.get_chunks(talk, "n"),
                lambda: store.delete_chunks(talk, "n"),
                lambda: store.index(talk.tenant, "u", "s"),
                lambda: store.sessions(talk.tenant),
                lambda: store.agents(talk.tenant, "s"),
                lambda: store.pending(talk.tenant),
                lambda: store.ping(),
            ]
            for call in calls:
                with pytest.raises(StoreUnavailable):
                    await call()
        await store.ping()
        assert (await store.read(talk)).body == b"one"
        await store.write(talk, b"two", expect=await store.versions(talk), new=Versions(2, 9), pending=False)
        assert (await store.read(talk)).body == b"two"

    async def test_what_never_reached_the_store_is_known_not_to_have_happened(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        async with at.outage():
            # The first call may find out about its open connection; the next finds none to send anything on.
            with pytest.raises(StoreUnavailable):
                await at.store.ping()
            with pytest.raises(StoreUnavailable) as refused:
                await create(at.store, talk)
        assert refused.value.definite
        assert await at.store.versions(talk) == ABSENT

    async def test_a_write_whose_answer_is_lost_is_in_doubt_and_there(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        await create(at.store, talk)
        await update(at.store, talk, b"two", 2)  # whatever precedes a store's first update is done with
        await at.lose_next_answer()
        with pytest.raises(StoreUnavailable) as lost:
            await update(at.store, talk, b"three", 3)
        assert not lost.value.definite
        assert await at.store.read(talk) == Stored(Versions(3, 3), b"three", {})

    async def test_a_lock_whose_answer_is_lost_is_in_doubt_and_may_be_asked_again(
        self, at: Backend[StateStore]
    ) -> None:
        await at.store.lock(fresh(), "warm", 60)
        talk = fresh()
        await at.lose_next_answer()
        with pytest.raises(StoreUnavailable) as lost:
            await at.store.lock(talk, "mine", 60)
        assert not lost.value.definite
        with pytest.raises(Locked):
            await at.second().lock(talk, "theirs", 60)
        assert (await at.store.lock(talk, "mine", 60)).body == b""

    async def test_a_closed_store_answers_nothing(self, at: Backend[StateStore]) -> None:
        store = at.second()
        await store.ping()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.versions(fresh())
