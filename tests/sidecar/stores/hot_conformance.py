"""What every hot store must do. A test class of a backend inherits it and gives the fixture ``server``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentmemory_sidecar.stores.protocols import Begun, Busy, Claim, Conversation, HotCopy, HotStore, Versions
from agentmemory_sidecar.stores.redis import RedisHotStore, RedisOptions
from tests.sidecar.stores.hot_servers import HotServer

HERE = Conversation("acme", "s1")
COPY = HotCopy(Versions(3, 7), b"\x00body\xff", 0)
MISSED_MS = 34_000
"""What a lock of 60 s has left when a renewal each 20 s is more than 5 s late."""


def claim(step: str, request: str = "r1", extends: str = "") -> Claim:
    return Claim(token=f"pod:{step}:{request}", request=request, extends=extends)


async def begun(hot: HotStore, wanted: Claim, conversation: Conversation = HERE) -> Begun:
    answer = await hot.begin(conversation, wanted)
    assert isinstance(answer, Begun), answer
    return answer


async def busy(hot: HotStore, wanted: Claim, conversation: Conversation = HERE) -> Busy:
    answer = await hot.begin(conversation, wanted)
    assert isinstance(answer, Busy), answer
    return answer


async def committed(hot: HotStore, copy: HotCopy = COPY, conversation: Conversation = HERE) -> None:
    """One whole step that leaves ``copy``."""
    step = claim("committed")
    await begun(hot, step, conversation)
    assert await hot.commit(conversation, step.token, copy, {})


@asynccontextmanager
async def opened(options: RedisOptions) -> AsyncIterator[RedisHotStore]:
    store = RedisHotStore(options)
    try:
        yield store
    finally:
        await store.close()


class HotConformance:
    @pytest.fixture
    async def hot(self, server: HotServer) -> AsyncIterator[HotStore]:
        await server.flush()
        async with opened(server.options) as store:
            yield store

    # ------------------------------------------------------------------------------------------------------------ lock

    async def test_one_of_many_gets_the_lock(self, hot: HotStore) -> None:
        claims = [claim(str(n), f"r{n}") for n in range(50)]
        answers = await asyncio.gather(*(hot.begin(HERE, each) for each in claims))
        winners = [each.token for each, answer in zip(claims, answers, strict=True) if isinstance(answer, Begun)]
        assert len(winners) == 1
        losers = [answer for answer in answers if isinstance(answer, Busy)]
        assert {loser.holder for loser in losers} == set(winners)
        assert all(0 < loser.ttl_ms <= 60_000 for loser in losers)

    async def test_a_commit_and_a_release_free_the_lock(self, hot: HotStore) -> None:
        await begun(hot, claim("1"))
        assert await hot.commit(HERE, claim("1").token, COPY, {})
        await begun(hot, claim("2"))
        assert await hot.release(HERE, claim("2").token, intact=True)
        await begun(hot, claim("3"))

    async def test_only_the_holders_token_counts(self, hot: HotStore) -> None:
        await begun(hot, claim("1"))
        other = claim("2").token
        assert not await hot.renew(HERE, other, 60_000)
        assert not await hot.release(HERE, other, intact=True)
        assert not await hot.commit(HERE, other, COPY, {})
        assert (await busy(hot, claim("3", "r3"))).holder == claim("1").token
        assert await hot.renew(HERE, claim("1").token, 60_000)

    async def test_a_lock_ends_by_itself(self, hot: HotStore) -> None:
        await begun(hot, Claim("pod:1:r1", "r1", ttl_ms=20, renew_ms=5))
        async with asyncio.timeout(30):
            while isinstance(await hot.begin(HERE, claim("2", "r2")), Busy):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not await hot.renew(HERE, "pod:1:r1", 60_000)

    async def test_renewing_sets_the_time_left(self, hot: HotStore) -> None:
        await begun(hot, claim("1"))
        assert await hot.renew(HERE, claim("1").token, 200_000)
        assert (await busy(hot, claim("2", "r2"))).ttl_ms > 100_000

    async def test_the_same_request_takes_over_a_lock_that_missed_a_renewal(self, hot: HotStore) -> None:
        await committed(hot)
        assert (await begun(hot, claim("1"))).copy == COPY
        assert (await busy(hot, claim("2"))).holder == claim("1").token  # no renewal was missed yet
        await hot.renew(HERE, claim("1").token, MISSED_MS)
        assert (await busy(hot, claim("3", "r3"))).holder == claim("1").token  # another request waits for the TTL
        assert (await busy(hot, claim("4", ""))).holder == claim("1").token
        assert (await busy(hot, claim("5", "1"))).holder == claim("1").token  # the end of the hash is not the hash
        second = await begun(hot, claim("2"))
        assert second.took_over
        assert second.copy is None  # nobody knows what the first one did
        assert not await hot.commit(HERE, claim("1").token, COPY, {})
        assert await hot.renew(HERE, claim("2").token, 60_000)

    async def test_agents_and_tenants_have_locks_of_their_own(self, hot: HotStore) -> None:
        for conversation in (
            HERE,
            Conversation("acme", "s1", "sub"),
            Conversation("acme", "s1", "sub:2"),
            Conversation("other", "s1"),
            Conversation("acme/s1", ""),
            Conversation("", "acme/s1"),
            Conversation("acme", "s1:agent:sub"),
            Conversation("ac}{me", "{s}1 ü\n"),
        ):
            answer = await begun(hot, claim("1"), conversation)
            assert answer.copy is None
            assert await hot.freeze(conversation, "k", repr(conversation).encode()) == repr(conversation).encode()
            await hot.note(conversation, b"n")
            await hot.peek(conversation, compaction=True)
            assert await hot.renew(conversation, claim("1").token, 60_000)
            assert await hot.commit(conversation, claim("1").token, COPY, {"k2": b"e"})
            await hot.drop(conversation)

    # ----------------------------------------------------------------------------------------------------- reservation

    async def test_a_reserved_session_opens_for_what_extends_it(self, hot: HotStore) -> None:
        await begun(hot, claim("1"))
        assert await hot.commit(HERE, claim("1").token, COPY, {}, reserve="h0 h1")
        for extends in ("", "h2", "h", "reserved"):
            refused = await busy(hot, claim("2", "r2", extends))
            assert refused.holder == "reserved"
            assert 0 < refused.ttl_ms <= 60_000
        assert not await hot.release(HERE, claim("1").token, intact=True)
        opened = await begun(hot, claim("2", "r2", "h1"))
        assert opened.copy == COPY
        assert not opened.took_over
        assert (await busy(hot, claim("3", "r3", "h1"))).holder == claim("2", "r2").token

    # -------------------------------------------------------------------------------------------------------- hot copy

    async def test_the_copy_comes_back(self, hot: HotStore) -> None:
        nothing = await begun(hot, claim("0"))
        assert nothing == Begun(copy=None, ledger={}, notes=[])
        await hot.release(HERE, claim("0").token, intact=True)
        copy = HotCopy(Versions(2**40, 2**53 - 1), bytes(range(256)) * 4096, 0)
        await committed(hot, copy)
        assert (await begun(hot, claim("1"))).copy == copy

    async def test_peek_reads_without_the_lock(self, hot: HotStore) -> None:
        await committed(hot)
        assert (await hot.peek(HERE)).copy == COPY
        await begun(hot, claim("1"))
        assert (await hot.peek(HERE)).copy is None  # dirty: a step is at work

    async def test_a_dirty_copy_is_not_served(self, hot: HotStore) -> None:
        await committed(hot)
        await begun(hot, claim("1"))
        await hot.renew(HERE, claim("1").token, 1)  # its pod was killed, and the lock ran out
        async with asyncio.timeout(30):
            while isinstance(answer := await hot.begin(HERE, claim("2", "r2")), Busy):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert answer.copy is None
        assert await hot.release(HERE, claim("2", "r2").token, intact=True)
        assert (await begun(hot, claim("3"))).copy is None  # what the first one left stays untrusted

    async def test_an_intact_release_cleans_the_copy(self, hot: HotStore) -> None:
        await committed(hot)
        assert (await begun(hot, claim("1"))).copy == COPY
        assert await hot.release(HERE, claim("1").token, intact=True)
        assert (await begun(hot, claim("2"))).copy == COPY
        assert await hot.release(HERE, claim("2").token, intact=False)
        assert (await begun(hot, claim("3"))).copy is None

    async def test_a_commit_without_the_lock_drops_the_copy(self, hot: HotStore) -> None:
        await committed(hot)
        assert not await hot.commit(HERE, "pod:late:r", HotCopy(Versions(9, 9), b"late", 0), {})
        assert (await begun(hot, claim("1"))).copy is None

    async def test_a_dropped_copy_is_gone_and_the_lock_is_not(self, hot: HotStore) -> None:
        await committed(hot)
        await begun(hot, claim("1"))
        await hot.drop(HERE)
        await busy(hot, claim("2", "r2"))
        await hot.release(HERE, claim("1").token, intact=True)
        assert (await hot.peek(HERE)).copy is None

    # ---------------------------------------------------------------------------------------------------------- ledger

    async def test_the_first_entry_of_a_key_stands(self, hot: HotStore) -> None:
        entries = [f"entry {n}".encode() for n in range(20)]
        standing = await asyncio.gather(*(hot.freeze(HERE, "k", entry) for entry in entries))
        assert len(set(standing)) == 1
        assert standing[0] in entries
        assert (await hot.peek(HERE)).ledger == {"k": standing[0]}

    async def test_the_copy_waits_for_its_whole_ledger(self, hot: HotStore) -> None:
        await begun(hot, claim("1"))
        await hot.freeze(HERE, "k1", b"e1")
        assert await hot.commit(HERE, claim("1").token, HotCopy(Versions(1, 1), b"b", 2), {})
        incomplete = await begun(hot, claim("2"))
        assert incomplete.copy is None
        assert incomplete.ledger == {"k1": b"e1"}
        assert await hot.commit(HERE, claim("2").token, HotCopy(Versions(2, 2), b"b", 2), {"k2": b"\xff\x00"})
        whole = await begun(hot, claim("3"))
        assert whole.copy == HotCopy(Versions(2, 2), b"b", 2)
        assert whole.ledger == {"k1": b"e1", "k2": b"\xff\x00"}

    async def test_a_long_ledger(self, hot: HotStore) -> None:
        entries = {f"k{n}": b"e%d" % n for n in range(9000)}
        await begun(hot, claim("1"))
        assert await hot.commit(HERE, claim("1").token, HotCopy(Versions(1, 1), b"b", len(entries)), entries)
        assert await begun(hot, claim("2")) == Begun(HotCopy(Versions(1, 1), b"b", len(entries)), entries, [])

    async def test_what_the_caller_wrote_itself_is_not_told_again(self, hot: HotStore) -> None:
        writer = claim("1").token
        await begun(hot, claim("1"))
        assert await hot.commit(HERE, writer, HotCopy(Versions(1, 1), b"b", 2), {"k1": b"e1", "k2": b"e2"})
        told = Begun(HotCopy(Versions(1, 1), b"b", 2), {"k1": b"e1", "k2": b"e2"}, [])

        def knows(step: str, token: str, entries: int) -> Claim:
            return Claim(f"pod:{step}:r", "r", known=token, known_entries=entries)

        assert await begun(hot, knows("2", writer, 2)) == Begun(HotCopy(Versions(1, 1), b"", 2), {}, [], same=True)
        assert await hot.release(HERE, "pod:2:r", intact=True)
        for wrong in (knows("3", "pod:another:r", 2), knows("3", writer, 1), claim("3")):
            assert await begun(hot, wrong) == told
            assert await hot.release(HERE, wrong.token, intact=True)
        # An entry that somebody else has frozen since: all is told.
        await begun(hot, claim("4"))
        await hot.freeze(HERE, "k3", b"e3")
        assert await hot.release(HERE, claim("4").token, intact=True)
        assert (await begun(hot, knows("5", writer, 2))).ledger == {"k1": b"e1", "k2": b"e2", "k3": b"e3"}
        assert await hot.release(HERE, "pod:5:r", intact=True)
        # Dirty, or another's: nothing is the same.
        await begun(hot, claim("6"))
        assert await hot.release(HERE, claim("6").token, intact=False)
        gone = await begun(hot, knows("7", writer, 3))
        assert (gone.copy, gone.same, len(gone.ledger)) == (None, False, 3)
        assert await hot.commit(HERE, "pod:7:r", HotCopy(Versions(1, 1), b"other", 3), {})
        other = await begun(hot, knows("8", writer, 3))
        assert (other.same, other.copy) == (False, HotCopy(Versions(1, 1), b"other", 3))

    async def test_an_entry_outlives_a_failed_step(self, hot: HotStore) -> None:
        await begun(hot, claim("1"))
        await hot.freeze(HERE, "k", b"e")
        await hot.release(HERE, claim("1").token, intact=False)
        assert (await begun(hot, claim("2"))).ledger == {"k": b"e"}

    # ----------------------------------------------------------------------------------------- notes, marks, receipts

    async def test_notes_are_capped_and_cleared_by_a_commit(self, hot: HotStore) -> None:
        for n in range(103):
            await hot.note(HERE, b"%d" % n)
        step = await begun(hot, claim("1"))
        assert step.notes == [b"%d" % n for n in range(3, 103)]
        assert await hot.release(HERE, claim("1").token, intact=True, note=b"failed")
        assert (await begun(hot, claim("2"))).notes[-2:] == [b"102", b"failed"]
        await hot.note(HERE, b"later")
        assert await hot.commit(HERE, claim("2").token, COPY, {}, noted=99)
        assert (await hot.peek(HERE)).notes == [b"later"]

    async def test_an_acknowledgement_is_known_before_it_is_written(self, hot: HotStore) -> None:
        await committed(hot)
        await hot.acknowledge(HERE, "committed", 60_000)
        assert (await begun(hot, claim("2"))).acknowledged == "committed"

    async def test_a_late_release_still_leaves_its_note(self, hot: HotStore) -> None:
        assert not await hot.release(HERE, "pod:late:r", intact=True, note=b"late")
        assert (await hot.peek(HERE)).notes == [b"late"]

    async def test_a_compaction_is_known_until_the_next_commit(self, hot: HotStore) -> None:
        assert not (await hot.peek(HERE)).compacted
        await hot.peek(HERE, compaction=True)
        assert (await begun(hot, claim("1"))).compacted
        await hot.release(HERE, claim("1").token, intact=True)
        assert (await begun(hot, claim("2"))).compacted
        await hot.commit(HERE, claim("2").token, COPY, {})
        assert not (await begun(hot, claim("3"))).compacted

    async def test_acknowledgements_arrive(self, hot: HotStore) -> None:
        conversations = [Conversation("acme", f"s{n}") for n in range(40)]
        for conversation in conversations:
            await hot.acknowledge(conversation, "older", 60_000)
            await hot.acknowledge(conversation, f"step of {conversation.session}", 60_000)
        async with asyncio.timeout(30):
            for conversation in conversations:
                while (await hot.peek(conversation)).acknowledged != f"step of {conversation.session}":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    async def test_closing_sends_the_last_acknowledgements(self, hot: HotStore, server: HotServer) -> None:
        await hot.acknowledge(HERE, "last", 60_000)
        await hot.close()
        async with opened(server.options) as again:
            assert (await again.peek(HERE)).acknowledged == "last"

    async def test_ping(self, hot: HotStore) -> None:
        await hot.ping()

    # ------------------------------------------------------------------------------------------------------------ keys

    async def test_every_key_has_the_tag_and_an_end(self, hot: HotStore, server: HotServer) -> None:
        conversations = [Conversation("a/b", "s{1}"), Conversation("a/b", "s{1}", "sub")]
        for conversation in conversations:
            await begun(hot, claim("1"), conversation)
            await hot.freeze(conversation, "k1", b"e")
            await hot.commit(conversation, claim("1").token, HotCopy(Versions(1, 1), b"b", 2), {"k2": b"e"}, "h")
            await hot.note(conversation, b"n")
            await hot.peek(conversation, compaction=True)
            await hot.acknowledge(conversation, "s", 600_000)
            await begun(hot, claim("2", "r2", "h"), conversation)
            await hot.release(conversation, "another", intact=True, note=b"n")
        await hot.ping()
        await hot.close()
        ttls = await server.ttls()
        ttls.pop(b"ping:sess:{}", None)
        tag = b"sess:{a%2Fb/s%7B1%7D}"
        kinds = {b"lock": 60_000, b"hot": 900_000, b"ledger": 86_400_000, b"ack": 600_000}
        kinds |= {b"notes": 86_400_000, b"mark": 86_400_000}
        expected = {b"%s:%s%s" % (kind, tag, agent): ms for kind, ms in kinds.items() for agent in (b"", b":agent:sub")}
        assert ttls.keys() == expected.keys()
        assert all(0 < ttls[key] <= most for key, most in expected.items()), ttls
