"""PostgreSQL as the state tier: what is its own, beside the conformance suite."""

import asyncio
import json

import asyncpg
import pytest

from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresStateStore
from agentmemory_sidecar.stores.protocols import ABSENT, Conversation, StateStore, Stored, Versions
from tests.sidecar.stores.conformance.backends import Backend
from tests.sidecar.stores.conformance.state import StateConformance
from tests.sidecar.stores.conformance.talks import create, fresh


class TestState(StateConformance):
    backend = "postgres"

    async def test_heads_are_items_of_their_own(self, store: StateStore, postgres_dsn: str) -> None:
        talk = fresh()
        other = PostgresStateStore(PostgresOptions(postgres_dsn, head="eu-west-1"))
        await create(store, talk, b"main's")
        await store.add_entries(talk, {"k": b"main's"})
        assert await other.read(talk) == Stored(ABSENT, b"", {})
        await create(other, talk, b"theirs", pending=True)
        assert (await store.read(talk)).body == b"main's"
        assert await store.pending(talk.tenant) == []
        await other.close()

    async def test_writers_of_many_entries_do_not_deadlock(self, at: Backend[StateStore]) -> None:
        # Enough for the statements to overlap; one goes through them backwards.
        talk, other = fresh(), at.second()
        await asyncio.gather(at.store.ping(), other.ping())
        entries = {f"{number:06}": b"x" for number in range(4000)}
        backwards = dict(reversed(entries.items()))
        answers = await asyncio.gather(at.store.add_entries(talk, entries), other.add_entries(talk, backwards))
        assert list(answers) == [entries, entries]

    async def test_writes_of_one_moment_are_each_under_their_own_condition(self, store: StateStore) -> None:
        talks = [fresh() for _ in range(7)]
        for talk in talks:
            await create(store, talk)
        await store.lock(talks[5], "mine", 60)
        at = [await store.versions(talk) for talk in talks]
        expected = [Versions(9, 9) if number % 3 == 1 else versions for number, versions in enumerate(at)]
        nul = Conversation(talks[6].tenant, "nul \0 byte")

        answers = await asyncio.gather(
            *(
                store.write(
                    nul if number == 6 else talk, b"%d" % number, expect=expected[number], new=Versions(5, 5 + number),
                    pending=number == 2, entries={f"k{number}": b"e"} if number < 4 else None, token="mine",
                    ttl_s=60 if number else None,
                )
                for number, talk in enumerate(talks)
            ),
            return_exceptions=True,
        )  # fmt: skip

        assert [type(answer).__name__ for answer in answers] == [
            "NoneType", "StaleWrite", "NoneType", "NoneType", "StaleWrite", "NoneType", "ValueError",
        ]  # fmt: skip
        now = await asyncio.gather(*(store.versions(talk) for talk in (*talks, fresh())))
        assert now == [
            Versions(5, 5 + number) if number in (0, 2, 3, 5) else versions for number, versions in enumerate(at)
        ] + [ABSENT]
        assert [(await store.read(talk)).ledger for talk in talks[:5]] == [{f"k{n}": b"e"} for n in range(4)] + [{}]
        assert (await store.read(talks[3])).body == b"3"
        assert [one.session for one in await store.pending(talks[2].tenant)] == [talks[2].session]
        await store.lock(talks[5], "another's", 60)  # the write has released it

    async def test_an_empty_body_is_refused(self, store: StateStore) -> None:
        with pytest.raises(ValueError, match="must not be empty"):
            await store.write(fresh(), b"", expect=ABSENT, new=Versions(1, 1), pending=False)

    @pytest.mark.parametrize("name", ["nul \0 byte", "half a pair \ud800"])
    async def test_names_that_postgres_cannot_hold_are_refused(self, store: StateStore, name: str) -> None:
        talk = Conversation(fresh().tenant, name)
        for _ in range(2):
            with pytest.raises(ValueError, match="NUL") as refused:
                await create(store, talk)
            assert name not in str(refused.value)
        await store.ping()

    async def test_a_name_too_long_for_the_index_is_refused(self, store: StateStore) -> None:
        with pytest.raises(ValueError, match="2600 bytes"):
            # Repeated characters would be compressed and fit.
            await create(store, fresh("".join(chr(0x4E00 + 7 * number) for number in range(2000))))

    @pytest.mark.parametrize("after", ["x", "[]", '["a"]', '[1, "a"]', '{"a": "b"}', "null"])
    async def test_a_page_that_never_was_is_refused(self, store: StateStore, after: str) -> None:
        with pytest.raises(ValueError, match="after"):
            await store.sessions(fresh().tenant, after=after)

    async def test_pages_go_by_subject_and_session(self, store: StateStore) -> None:
        tenant = fresh().tenant
        for subject, session in [("b", "1"), ("a", "2"), ("a", "1")]:
            await store.index(tenant, subject, session)
        page = await store.sessions(tenant, limit=2)
        assert (page.rows, json.loads(page.next)) == ([("a", "1"), ("a", "2")], ["a", "2"])

    async def test_a_ledger_entry_cannot_be_changed_by_sql(self, store: StateStore, postgres_dsn: str) -> None:
        talk = fresh()
        await store.add_entries(talk, {"k": b"entry"})
        connection = await asyncpg.connect(postgres_dsn)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await connection.execute("UPDATE agentmemory.ledger SET entry = 'x' WHERE tenant = $1", talk.tenant)
        finally:
            await connection.close()
        assert (await store.read(talk)).ledger == {"k": b"entry"}

    async def test_a_lock_that_waited_for_a_commit_sees_the_commits_ledger(
        self, store: StateStore, postgres_dsn: str
    ) -> None:
        talk = fresh()
        await create(store, talk)
        connection = await asyncpg.connect(postgres_dsn)
        try:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(
                "UPDATE agentmemory.items SET turn = 2, version = 2, body = 'two' WHERE tenant = $1", talk.tenant
            )
            waiting = asyncio.gather(store.lock(talk, "mine", 60))
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%lock_token%'"
            ):
                await connection.execute("SELECT pg_stat_clear_snapshot()")
                await asyncio.sleep(0.01)
            # The waiting statement's snapshot is older than this entry, the item that it will lock is newer.
            await connection.execute(
                "INSERT INTO agentmemory.ledger (tenant, session, agent, head, key, entry)"
                " VALUES ($1, $2, $3, 'main', 'k', 'entry')",
                talk.tenant,
                talk.session,
                talk.agent,
            )
            await transaction.commit()
        finally:
            await connection.close()
        (stored,) = await waiting
        assert stored == Stored(Versions(2, 3), b"two", {"k": b"entry"})
