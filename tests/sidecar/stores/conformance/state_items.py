"""Items: conditional writes, times to live, and names."""

import asyncio
import os
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    ROOT,
    Conversation,
    StaleWrite,
    StateStore,
    Stored,
    Versions,
)
from tests.sidecar.stores.conformance.backends import Backend
from tests.sidecar.stores.conformance.talks import create, fresh, lasting, update

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


class ItemConformance:
    """What a write and a read of an item are."""

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
