"""The conformance suite of :class:`StateStore`."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    ROOT,
    Conversation,
    Locked,
    StaleWrite,
    StateStore,
    Stored,
    StoreUnavailable,
    Versions,
)
from tests.sidecar.stores.conformance.backends import STATE, Backend

ITEM_LIMIT = 350 * 1024
"""Bytes of the largest body that every backend takes."""

ODD_NAMES = [
    "a/b",
    "a%2Fb",
    "a#b",
    "a{b}",
    "{a}b",
    "a b",
    " a",
    "a:b",
    "a\\b",
    "a'b\"c",
    "a|b",
    "a..b",
    "a\tb",
    "a\nb",
    "ä",
    "a\u0308",
    "日本",
    "🙂",
    "root",
    "main",
    "x" * 300,
    "x" * 299 + "y",
]
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)


def fresh(session: str = "s", agent: str = ROOT) -> Conversation:
    """A conversation of a tenant that no other test has seen."""
    return Conversation(f"tenant-{uuid4().hex}", session, agent)


async def create(store: StateStore, talk: Conversation, body: bytes = b"one", *, pending: bool = False) -> None:
    await store.write(talk, body, expect=ABSENT, new=Versions(1, 1), pending=pending)


async def update(store: StateStore, talk: Conversation, body: bytes, step: int, *, pending: bool = False) -> None:
    """From versions (step - 1, step - 1) to (step, step)."""
    await store.write(talk, body, expect=Versions(step - 1, step - 1), new=Versions(step, step), pending=pending)


async def lasting(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds; the test's own time limit ends a wait in vain."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


class StateConformance:
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

    # ------------------------------------------------------------------------------------------- conditional writes

    async def test_an_item_never_written_is_absent(self, store: StateStore) -> None:
        talk = fresh()
        assert await store.read(talk) == Stored(ABSENT, b"", {})
        assert await store.versions(talk) == ABSENT

    async def test_create_and_update(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        await create(at.store, talk, b"one")
        assert await at.second().read(talk) == Stored(Versions(1, 1), b"one", {})
        await update(at.store, talk, b"two", 2)
        assert await at.second().read(talk) == Stored(Versions(2, 2), b"two", {})
        assert await at.second().versions(talk) == Versions(2, 2)

    async def test_turn_and_version_are_kept_apart(self, store: StateStore) -> None:
        talk = fresh()
        await store.write(talk, b"a", expect=ABSENT, new=Versions(0, 1), pending=False)
        assert await store.versions(talk) == Versions(0, 1)
        await store.write(talk, b"b", expect=Versions(0, 1), new=Versions(7, 2**40), pending=False)
        assert await store.versions(talk) == Versions(7, 2**40)

    @pytest.mark.parametrize(
        "expect",
        [ABSENT, Versions(1, 1), Versions(1, 2), Versions(2, 1), Versions(3, 2), Versions(2, 3), Versions(3, 3)],
        ids=str,
    )
    async def test_a_stale_write_changes_nothing(self, store: StateStore, expect: Versions) -> None:
        talk = fresh()
        await create(store, talk)
        await update(store, talk, b"two", 2)
        with pytest.raises(StaleWrite):
            await store.write(talk, b"stale", expect=expect, new=Versions(9, 9), pending=True)
        assert await store.read(talk) == Stored(Versions(2, 2), b"two", {})
        assert await store.pending(talk.tenant) == []

    async def test_an_update_of_an_absent_item_is_refused(self, store: StateStore) -> None:
        talk = fresh()
        with pytest.raises(StaleWrite):
            await update(store, talk, b"two", 2)
        assert await store.read(talk) == Stored(ABSENT, b"", {})

    async def test_of_sixteen_that_create_one_wins(self, at: Backend[StateStore]) -> None:
        talk, other = fresh(), at.second()

        async def attempt(number: int) -> bytes | None:
            body = str(number).encode()
            try:
                await create(at.store if number % 2 else other, talk, body)
            except StaleWrite:
                return None
            return body

        winners = [body for body in await asyncio.gather(*map(attempt, range(16))) if body is not None]
        assert len(winners) == 1
        assert await other.read(talk) == Stored(Versions(1, 1), winners[0], {})

    async def test_sixteen_that_update_lose_no_write(self, at: Backend[StateStore]) -> None:
        talk, other = fresh(), at.second()
        await create(at.store, talk)

        async def writer(store: StateStore) -> int:
            done = 0
            for _ in range(20):
                seen = await store.versions(talk)
                try:
                    await update(store, talk, b"x", seen.version + 1)
                    done += 1
                except StaleWrite:
                    pass
            return done

        done = await asyncio.gather(*(writer(at.store if number % 2 else other) for number in range(16)))
        assert await at.store.versions(talk) == Versions(1 + sum(done), 1 + sum(done))
        assert sum(done) >= 20

    @pytest.mark.parametrize("size", [1, ITEM_LIMIT])
    async def test_bodies_come_back_byte_for_byte(self, store: StateStore, size: int) -> None:
        talk, first, second = fresh(), os.urandom(size), os.urandom(size)
        await create(store, talk, first)
        assert (await store.read(talk)).body == first
        await update(store, talk, second, 2)
        assert (await store.read(talk)).body == second

    async def test_a_body_may_hold_any_byte(self, store: StateStore) -> None:
        talk = fresh()
        await create(store, talk, bytes(range(256)))
        assert (await store.read(talk)).body == bytes(range(256))

    async def test_an_item_lives_no_longer_than_its_ttl(self, store: StateStore) -> None:
        talk = fresh()
        await store.write(talk, b"one", expect=ABSENT, new=Versions(1, 1), pending=True, ttl_s=1)

        async def absent() -> bool:
            return await store.versions(talk) == ABSENT

        await lasting(absent)
        assert await store.read(talk) == Stored(ABSENT, b"", {})
        assert await store.agents(talk.tenant, talk.session) == []
        assert await store.pending(talk.tenant) == []
        with pytest.raises(StaleWrite):
            await update(store, talk, b"two", 2)
        await create(store, talk, b"anew")
        assert await store.read(talk) == Stored(Versions(1, 1), b"anew", {})

    async def test_an_expired_item_that_is_locked_is_a_new_one(self, store: StateStore) -> None:
        talk = fresh()
        await store.write(talk, b"one", expect=ABSENT, new=Versions(1, 1), pending=True, ttl_s=1)

        async def absent() -> bool:
            return await store.versions(talk) == ABSENT

        await lasting(absent)
        stored = await store.lock(talk, "t", 60)
        assert (stored.body, stored.versions.turn) == (b"", 0)
        assert await store.pending(talk.tenant) == []
        await store.write(talk, b"anew", expect=stored.versions, new=Versions(1, 9), pending=False, token="t")
        assert await store.read(talk) == Stored(Versions(1, 9), b"anew", {})

    async def test_a_later_write_sets_the_ttl_anew(self, store: StateStore) -> None:
        talk, witness = fresh(), fresh()
        for each in (talk, witness):
            await store.write(each, b"one", expect=ABSENT, new=Versions(1, 1), pending=False, ttl_s=1)
        await update(store, talk, b"two", 2)

        async def expired() -> bool:
            return await store.versions(witness) == ABSENT

        await lasting(expired)
        assert await store.versions(talk) == Versions(2, 2)

    # --------------------------------------------------------------------------------------------------------- ledger

    async def test_entries_may_exist_without_an_item(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        assert await at.store.add_entries(talk, {"k": b"entry"}) == {"k": b"entry"}
        assert await at.second().read(talk) == Stored(ABSENT, b"", {"k": b"entry"})
        assert await at.store.agents(talk.tenant, talk.session) == []
        await create(at.store, talk)
        assert await at.second().read(talk) == Stored(Versions(1, 1), b"one", {"k": b"entry"})

    async def test_a_write_stores_its_entries_even_where_it_is_refused(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        await at.store.add_entries(talk, {"a": b"first"})
        one, two = Versions(1, 1), Versions(2, 2)
        entries = {"a": b"second", "b": b"new"}
        await at.store.write(talk, b"one", expect=ABSENT, new=one, pending=False, entries=entries)
        assert await at.second().read(talk) == Stored(one, b"one", {"a": b"first", "b": b"new"})
        await at.store.write(talk, b"two", expect=one, new=two, pending=False, entries={"c": b"3"})
        with pytest.raises(StaleWrite):
            await at.store.write(talk, b"late", expect=one, new=Versions(9, 9), pending=False, entries={"d": b"4"})
        ledger = {"a": b"first", "b": b"new", "c": b"3", "d": b"4"}
        assert await at.second().read(talk) == Stored(two, b"two", ledger)

    async def test_the_first_writer_of_an_entry_wins(self, store: StateStore) -> None:
        talk = fresh()
        await store.add_entries(talk, {"a": b"1", "b": b"2"})
        assert await store.add_entries(talk, {"b": b"other", "c": b"3"}) == {"b": b"2", "c": b"3"}
        assert await store.add_entries(talk, {"a": b"other"}) == {"a": b"1"}
        assert (await store.read(talk)).ledger == {"a": b"1", "b": b"2", "c": b"3"}

    async def test_no_entries_are_nothing_to_do(self, store: StateStore) -> None:
        assert await store.add_entries(fresh(), {}) == {}

    async def test_writers_of_the_same_entries_agree(self, at: Backend[StateStore]) -> None:
        talk, other = fresh(), at.second()
        keys = [f"k{number}" for number in range(8)]

        async def writer(number: int) -> dict[str, bytes]:
            # Each in another order: a store must not make them wait for each other in a circle.
            order = keys[number:] + keys[:number]
            store = at.store if number % 2 else other
            return dict(await store.add_entries(talk, {key: f"{key} of {number}".encode() for key in order}))

        answers = await asyncio.gather(*map(writer, range(8)))
        assert all(answer == answers[0] for answer in answers)
        assert (await other.read(talk)).ledger == answers[0]

    async def test_the_whole_ledger_is_read(self, store: StateStore) -> None:
        talk = fresh()
        ledger = {f"{number:064x}": os.urandom(20_000) for number in range(80)}
        keys = list(ledger)
        for first in range(0, len(keys), 10):
            await store.add_entries(talk, {key: ledger[key] for key in keys[first : first + 10]})
        await create(store, talk)
        assert (await store.read(talk)).ledger == ledger

    async def test_an_item_is_never_newer_than_its_ledger(self, at: Backend[StateStore]) -> None:
        talk, other = fresh(), at.second()
        await create(at.store, talk)

        async def writer() -> None:
            for step in range(2, 32):
                await at.store.add_entries(talk, {f"k{step}": b"entry"})
                await update(at.store, talk, b"x", step)

        async def reader() -> None:
            seen = 0
            while seen < 31:
                stored = await other.read(talk)
                seen = stored.versions.turn
                assert {f"k{step}" for step in range(2, seen + 1)} <= stored.ledger.keys()

        await asyncio.gather(writer(), reader())

    # ----------------------------------------------------------------------------------------------------------- lock

    async def test_a_lock_keeps_others_out_until_it_is_released(self, at: Backend[StateStore]) -> None:
        talk, other = fresh(), at.second()
        await create(at.store, talk)
        stored = await at.store.lock(talk, "mine", 60)
        assert stored.body == b"one"
        assert stored.versions.turn == 1
        with pytest.raises(Locked) as refused:
            await other.lock(talk, "theirs", 60)
        assert refused.value.holder == "mine"
        assert 0 < refused.value.seconds_left <= 60
        await other.unlock(talk, "theirs")
        with pytest.raises(Locked):
            await other.lock(talk, "theirs", 60)
        await at.store.unlock(talk, "mine")
        assert (await other.lock(talk, "theirs", 60)).body == b"one"

    async def test_a_lock_needs_no_item(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        stored = await at.store.lock(talk, "mine", 60)
        assert (stored.body, stored.ledger, stored.versions.turn) == (b"", {}, 0)
        assert stored.versions.version > 0
        assert await at.second().read(talk) == stored
        assert await at.store.agents(talk.tenant, talk.session) == []
        with pytest.raises(Locked):
            await at.second().lock(talk, "theirs", 60)

    async def test_of_sixteen_that_lock_one_wins(self, at: Backend[StateStore]) -> None:
        talk, other = fresh(), at.second()

        async def attempt(number: int) -> bool:
            try:
                await (at.store if number % 2 else other).lock(talk, f"token-{number}", 60)
            except Locked:
                return False
            return True

        assert sum(await asyncio.gather(*map(attempt, range(16)))) == 1

    async def test_a_lock_raises_the_version(self, store: StateStore) -> None:
        talk = fresh()
        await create(store, talk)
        stored = await store.lock(talk, "mine", 60)
        assert stored.versions > Versions(1, 1)
        assert await store.versions(talk) == stored.versions
        with pytest.raises(StaleWrite):
            await update(store, talk, b"stale", 2)
        await store.write(talk, b"two", expect=stored.versions, new=Versions(2, 9), pending=False, token="mine")
        assert await store.read(talk) == Stored(Versions(2, 9), b"two", {})

    async def test_the_holder_may_lock_again(self, store: StateStore) -> None:
        talk = fresh()
        first = await store.lock(talk, "mine", 1)
        second = await store.lock(talk, "mine", 60)
        assert second.versions >= first.versions
        with pytest.raises(Locked) as refused:
            await store.lock(talk, "theirs", 60)
        assert refused.value.seconds_left > 1

    async def test_a_lock_ends_by_itself(self, at: Backend[StateStore]) -> None:
        talk, other = fresh(), at.second()
        first = await at.store.lock(talk, "mine", 1)

        async def free() -> bool:
            try:
                await other.lock(talk, "theirs", 60)
            except Locked:
                return False
            return True

        await lasting(free)
        with pytest.raises(Locked) as refused:
            await at.store.lock(talk, "mine", 60)
        assert refused.value.holder == "theirs"
        with pytest.raises(StaleWrite):
            await at.store.write(talk, b"late", expect=first.versions, new=Versions(1, 9), pending=False, token="mine")

    async def test_a_write_with_the_token_releases_the_lock(self, at: Backend[StateStore]) -> None:
        talk, other = fresh(), at.second()
        stored = await at.store.lock(talk, "mine", 60)
        await at.store.write(talk, b"one", expect=stored.versions, new=Versions(1, 9), pending=False, token="mine")
        assert (await other.lock(talk, "theirs", 60)).body == b"one"

    @pytest.mark.parametrize("token", ["", "theirs"])
    async def test_a_write_without_the_token_leaves_the_lock(self, at: Backend[StateStore], token: str) -> None:
        talk = fresh()
        await create(at.store, talk)
        stored = await at.store.lock(talk, "mine", 60)
        await at.second().write(talk, b"two", expect=stored.versions, new=Versions(1, 9), pending=False, token=token)
        with pytest.raises(Locked) as refused:
            await at.second().lock(talk, "theirs", 60)
        assert refused.value.holder == "mine"

    async def test_who_saw_nothing_may_create_what_is_only_locked(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        locked = await at.store.lock(talk, "mine", 60)
        await create(at.second(), talk, b"theirs")
        with pytest.raises(StaleWrite):
            await at.store.write(talk, b"mine", expect=locked.versions, new=Versions(1, 9), pending=False)
        assert (await at.store.read(talk)).body == b"theirs"

    async def test_a_creation_never_repeats_the_versions_that_a_lock_gave(self, at: Backend[StateStore]) -> None:
        # Both would otherwise be told that they succeeded, and the first would be lost.
        talk = fresh()
        locked = await at.store.lock(talk, "mine", 60)
        with pytest.raises(StaleWrite):
            await at.second().write(talk, b"theirs", expect=ABSENT, new=locked.versions, pending=False)
        await at.store.write(talk, b"mine", expect=locked.versions, new=Versions(1, 9), pending=False, token="mine")
        assert (await at.store.read(talk)).body == b"mine"

    async def test_a_lock_stores_and_returns_entries(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        await at.store.add_entries(talk, {"a": b"1"})
        stored = await at.store.lock(talk, "mine", 60, {"a": b"other", "b": b"2"})
        assert stored.ledger == {"a": b"1", "b": b"2"}
        assert (await at.second().read(talk)).ledger == {"a": b"1", "b": b"2"}

    async def test_a_refused_lock_stores_no_entries(self, at: Backend[StateStore]) -> None:
        talk = fresh()
        await at.store.lock(talk, "mine", 60)
        with pytest.raises(Locked):
            await at.second().lock(talk, "theirs", 60, {"b": b"2"})
        assert (await at.store.read(talk)).ledger == {}

    # --------------------------------------------------------------------------------------------------------- chunks

    async def test_chunks_of_five_megabytes(self, at: Backend[StateStore]) -> None:
        talk, data = fresh(), os.urandom(5_000_000)
        assert await at.store.get_chunks(talk, "n") is None
        await at.store.put_chunks(talk, "n", data)
        await at.store.put_chunks(talk, "n", data)
        assert await at.second().get_chunks(talk, "n") == data
        await at.store.delete_chunks(talk, "n")
        assert await at.second().get_chunks(talk, "n") is None
        await at.store.delete_chunks(talk, "n")

    async def test_chunks_by_name_and_conversation(self, store: StateStore) -> None:
        talk = fresh()
        other = Conversation(talk.tenant, talk.session, "subagent")
        await store.put_chunks(talk, "n", b"one")
        await store.put_chunks(talk, "n2", b"")
        await store.put_chunks(other, "n", b"two")
        await store.delete_chunks(other, "n2")
        assert [await store.get_chunks(talk, name) for name in ("n", "n2", "n3")] == [b"one", b"", None]
        assert await store.get_chunks(other, "n") == b"two"
        assert await store.read(talk) == Stored(ABSENT, b"", {})
        assert await store.agents(talk.tenant, talk.session) == []

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

    # ---------------------------------------------------------------------------------------------------------- names

    async def test_odd_names_are_kept_apart(self, store: StateStore) -> None:
        tenant = fresh().tenant
        talks = [Conversation(tenant, session) for session in ODD_NAMES]
        talks += [Conversation(f"{tenant}{odd}", "s") for odd in ODD_NAMES]
        talks += [Conversation(tenant, "s", odd) for odd in ODD_NAMES if odd != ROOT]
        for number, talk in enumerate(talks):
            await create(store, talk, str(number).encode(), pending=True)
            await store.add_entries(talk, {talk.session: str(number).encode()})
        for number, talk in enumerate(talks):
            body = str(number).encode()
            assert await store.read(talk) == Stored(Versions(1, 1), body, {talk.session: body})
        assert set(await store.agents(tenant, "s")) == set(ODD_NAMES) - {ROOT}
        assert set(await store.pending(tenant)) == {talk for talk in talks if talk.tenant == tenant}

    # One process may run this for several stores, each a subclass of its own. No examples are kept, so that none is
    # replayed for another store.
    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(data=st.data())
    async def test_no_two_names_collide(self, store: StateStore, data: st.DataObject) -> None:
        # Parts that can be joined to the same whole in several ways find a missing or ambiguous separator.
        left, middle, right = data.draw(NAMES), data.draw(NAMES), data.draw(NAMES)
        joint = data.draw(st.sampled_from(["/", "#", "%", "|", ":", "\x1f", ""]))
        run = uuid4().hex
        talks = {
            Conversation(run + left, middle, right),
            Conversation(run + left + joint + middle, right, right),
            Conversation(run + left, middle + joint + right, right),
            Conversation(run + left, middle, right + joint + right),
            Conversation(run + left, right, middle),
        }
        for talk in talks:
            assert await store.read(talk) == Stored(ABSENT, b"", {})
            await create(store, talk, repr(talk).encode())
            await store.index(talk.tenant, talk.agent, talk.session)
        for talk in talks:
            assert await store.read(talk) == Stored(Versions(1, 1), repr(talk).encode(), {})
        for tenant in {talk.tenant for talk in talks}:
            rows = (await store.sessions(tenant)).rows
            assert set(rows) == {(talk.agent, talk.session) for talk in talks if talk.tenant == tenant}

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
