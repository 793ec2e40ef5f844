"""What belongs to an item beside its body: its ledger, its lock, its chunks."""

import asyncio
import os

import pytest

from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    Conversation,
    Locked,
    StaleWrite,
    StateStore,
    Stored,
    Versions,
)
from tests.sidecar.stores.conformance.backends import Backend
from tests.sidecar.stores.conformance.talks import create, fresh, lasting, update


class LockConformance:
    """Entries that are immutable, and locks that end by themselves."""

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
