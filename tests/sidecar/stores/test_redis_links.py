"""What the Redis store does when its server or the way there fails: standalone and cluster."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey
from agentmemory_sidecar.stores.protocols import Begun, Busy, Conversation, HotStore, StoreUnavailable
from agentmemory_sidecar.stores.redis import RedisOptions, keys
from tests.faults import FaultProxy
from tests.servers import KillableValkey
from tests.sidecar.stores.hot_conformance import COPY, HERE, begun, busy, claim, committed, opened
from tests.sidecar.stores.hot_servers import ValkeyCluster, free_ports

Killable = Callable[[], Awaitable[KillableValkey]]
SHORT_S = 0.3


async def unavailable(call: Awaitable[object]) -> StoreUnavailable:
    """The call's failure. The deadline here is far beyond the store's own."""
    async with asyncio.timeout(30):
        with pytest.raises(StoreUnavailable) as caught:
            await call
    return caught.value


async def serves(hot: HotStore) -> None:
    """Wait until the store serves again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await hot.ping()
            except StoreUnavailable:
                await asyncio.sleep(0.05)


# ------------------------------------------------------------------------------------------------------------ standalone


async def test_a_killed_server_is_out_and_comes_back(killable_valkey: Killable) -> None:
    server = await killable_valkey()
    async with opened(RedisOptions(urls=(server.url,))) as hot:
        await committed(hot)
        await begun(hot, claim("1"))
        async with Redis.from_url(server.url) as admin:
            assert await admin.waitaof(1, 0, 0) == [1, 0]
        await server.kill()
        assert (await unavailable(hot.ping())).definite
        assert (await unavailable(hot.begin(HERE, claim("2")))).definite
        await server.restart()
        assert (await busy(hot, claim("2"))).holder == claim("1").token  # at the first call, with what was kept


async def test_a_copy_from_before_a_restart_is_not_trusted(killable_valkey: Killable) -> None:
    server = await killable_valkey()
    async with opened(RedisOptions(urls=(server.url,))) as hot:
        step = claim("0")
        await begun(hot, step)
        assert await hot.commit(HERE, step.token, COPY, {"k": b"e"})
        async with Redis.from_url(server.url) as admin:
            assert await admin.waitaof(1, 0, 0) == [1, 0]
        await server.kill()
        await server.restart()
        assert (await hot.peek(HERE)).copy is None
        after = await begun(hot, claim("1"))
        assert after.copy is None
        assert after.ledger == {"k": b"e"}  # entries never change, so they may be used
        assert await hot.release(HERE, claim("1").token, intact=True)
        assert (await begun(hot, claim("2"))).copy is None


async def test_a_paused_server_leaves_the_effect_open(killable_valkey: Killable) -> None:
    server = await killable_valkey()
    async with opened(RedisOptions(urls=(server.url,), timeout_s=SHORT_S)) as hot:
        await hot.note(HERE, b"0")
        server.pause()
        assert not (await unavailable(hot.note(HERE, b"1"))).definite
        assert (await unavailable(hot.note(HERE, b"2"))).definite  # it could not even log in
        server.resume()
        await serves(hot)
        async with asyncio.timeout(30):
            while (await hot.peek(HERE)).notes != [b"0", b"1"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_many_calls_at_an_outage_all_end(killable_valkey: Killable) -> None:
    server = await killable_valkey()
    async with opened(RedisOptions(urls=(server.url,), timeout_s=SHORT_S)) as hot:
        await hot.ping()
        server.pause()
        async with asyncio.timeout(30):
            ends = await asyncio.gather(*(hot.ping() for _ in range(50)), return_exceptions=True)
        assert all(isinstance(end, StoreUnavailable) and not end.definite for end in ends)
        server.resume()
        await serves(hot)


async def test_closing_while_a_connection_is_opened(valkey: EmbeddedValkey) -> None:
    async with FaultProxy(valkey.socket) as proxy:
        proxy.blackhole()
        async with asyncio.TaskGroup() as group, opened(replace(through(proxy, valkey), timeout_s=10)) as hot:
            call = group.create_task(hot.ping())
            await asyncio.sleep(0.05)
            call.cancel()


def through(proxy: FaultProxy, server: EmbeddedValkey) -> RedisOptions:
    password = urlsplit(server.url).password
    return RedisOptions(urls=(f"redis://:{password}@{proxy.host}:{proxy.port}",), timeout_s=SHORT_S)


async def test_a_blackhole(valkey: EmbeddedValkey, valkey_url: str) -> None:
    async with FaultProxy(valkey.socket) as proxy, opened(through(proxy, valkey)) as hot:
        await hot.ping()
        proxy.blackhole()
        assert not (await unavailable(hot.ping())).definite
        assert (await unavailable(hot.ping())).definite
        await proxy.heal()
        await serves(hot)


async def test_a_refused_connection(valkey: EmbeddedValkey, valkey_url: str) -> None:
    async with FaultProxy(valkey.socket) as proxy, opened(through(proxy, valkey)) as hot:
        await hot.ping()
        await proxy.refuse()
        await asyncio.sleep(0.05)
        assert (await unavailable(hot.ping())).definite
        await proxy.heal()
        await hot.ping()


async def test_a_slow_way_is_cut_off(valkey: EmbeddedValkey, valkey_url: str) -> None:
    async with FaultProxy(valkey.socket) as proxy, opened(through(proxy, valkey)) as hot:
        await hot.ping()
        proxy.delay(5)
        assert not (await unavailable(hot.ping())).definite
        await proxy.heal()
        await serves(hot)


async def test_a_connection_that_died_while_idle_fails_no_call(valkey: EmbeddedValkey, valkey_url: str) -> None:
    async with FaultProxy(valkey.socket) as proxy, opened(through(proxy, valkey)) as hot:
        for _ in range(3):
            await hot.ping()
            proxy.cut()
            await asyncio.sleep(0.05)


async def test_a_lost_answer_is_said_and_never_repeated(valkey: EmbeddedValkey, valkey_url: str) -> None:
    async with FaultProxy(valkey.socket) as proxy, opened(through(proxy, valkey)) as hot:
        await hot.note(HERE, b"0")
        for n in (b"1", b"2"):
            await hot.ping()  # connected again
            proxy.lose_next_reply()
            assert not (await unavailable(hot.note(HERE, n))).definite
        assert proxy.replies_lost == 2
        assert (await hot.peek(HERE)).notes == [b"0", b"1", b"2"]


async def test_a_cut_in_the_middle_of_an_answer(valkey: EmbeddedValkey, valkey_url: str) -> None:
    async with FaultProxy(valkey.socket) as proxy, opened(through(proxy, valkey)) as hot:
        await committed(hot)
        proxy.cut_after(5)
        assert not (await unavailable(hot.peek(HERE))).definite
        assert (await hot.peek(HERE)).copy == COPY


async def test_a_cancelled_call_does_not_shift_the_answers(valkey_url: str) -> None:
    async with opened(RedisOptions(urls=(valkey_url,))) as hot:
        await committed(hot)
        conversations = [Conversation("acme", f"c{n}") for n in range(30)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hot.freeze(each, "k", each.session.encode())) for each in conversations]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
        assert [task.result() for task in tasks[1::2]] == [each.session.encode() for each in conversations[1::2]]
        assert (await hot.peek(HERE)).copy == COPY


async def test_a_replica_is_refused_before_anything_happens(killable_valkey: Killable) -> None:
    server = await killable_valkey()
    (nobody,) = free_ports(1)
    async with opened(RedisOptions(urls=(server.url,))) as hot, Redis.from_url(server.url) as admin:
        await hot.ping()
        await admin.replicaof("127.0.0.1", nobody)
        for call in (hot.ping(), hot.begin(HERE, claim("1")), hot.note(HERE, b"n")):
            error = await unavailable(call)
            assert error.definite
            assert error.reason == "READONLY"
        await admin.replicaof("NO", "ONE")
        await begun(hot, claim("1"))


# --------------------------------------------------------------------------------------------------------------- cluster


def conversation_of(first: int, last: int) -> Conversation:
    """A conversation whose keys lie in these slots."""
    candidates = (Conversation("acme", f"s{n}") for n in range(10_000))
    return next(each for each in candidates if first <= key_slot(keys(each)[0]) <= last)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_primary_that_dies_is_replaced(own_cluster: ValkeyCluster, end: signal.Signals) -> None:
    lost, kept = conversation_of(0, 5460), conversation_of(6000, 9000)
    async with opened(replace(own_cluster.options, timeout_s=1)) as hot:
        await committed(hot, COPY, lost)
        await committed(hot, COPY, kept)
        async with own_cluster.client(own_cluster.nodes[0]) as admin:
            await admin.wait(1, 0)
        os.kill(own_cluster.nodes[0].pid, end)
        async with asyncio.timeout(60):
            while True:
                try:
                    answer = await hot.begin(lost, claim("1"))
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
        if isinstance(answer, Busy):  # its own first attempt, whose answer was lost
            assert answer.holder == claim("1").token
        else:
            assert answer.copy is None  # from another primary's run
        assert isinstance(after := await hot.begin(kept, claim("1")), Begun)
        assert after.copy == COPY


async def test_calls_while_no_node_serves_the_slot(own_cluster: ValkeyCluster) -> None:
    lost, kept = conversation_of(0, 5460), conversation_of(6000, 9000)
    async with opened(replace(own_cluster.options, timeout_s=SHORT_S)) as hot:
        await committed(hot, COPY, lost)
        for node in (own_cluster.nodes[3], own_cluster.nodes[0]):  # the replica first
            os.kill(node.pid, signal.SIGKILL)
        await asyncio.sleep(0.05)
        assert (await unavailable(hot.begin(lost, claim("1")))).definite
        await own_cluster.nodes[0].start()
        async with asyncio.timeout(60):
            while True:
                try:
                    await hot.begin(lost, claim("1"))
                    await hot.begin(kept, claim("1"))
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.05)


async def test_slots_that_move_are_followed(own_cluster: ValkeyCluster) -> None:
    source, target = own_cluster.nodes[0], own_cluster.nodes[1]
    conversation = conversation_of(0, 5460)
    slot = key_slot(keys(conversation)[0])
    async with opened(own_cluster.options) as hot:
        await hot.ping()
        await committed(hot, COPY, conversation)
        source_id = await own_cluster.ask(source, "CLUSTER", "MYID")
        target_id = await own_cluster.ask(target, "CLUSTER", "MYID")
        await own_cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        await own_cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        moving = await own_cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
        assert target.port is not None
        where = ("127.0.0.1", target.port, "", 0, 5000, "AUTH", target.password, "KEYS")
        await own_cluster.ask(source, "MIGRATE", *where, *moving)
        # The source still owns the slot, and asks to look at the target: for one key at once, for several when it is done.
        await hot.acknowledge(conversation, "asked", 60_000)
        async with asyncio.TaskGroup() as group:
            step = group.create_task(begun(hot, claim("1"), conversation))
            async with asyncio.timeout(30):
                while await own_cluster.ask(target, "CLUSTER", "COUNTKEYSINSLOT", slot) <= len(moving):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert not step.done()
            for node in (target, source):
                await own_cluster.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        assert step.result().copy is None  # from another primary's run
        assert step.result().acknowledged == "asked"
        assert (await busy(hot, claim("2", "r2"), conversation)).holder == claim("1").token
        assert await hot.commit(conversation, claim("1").token, COPY, {})
        assert (await begun(hot, claim("3"), conversation)).copy == COPY
