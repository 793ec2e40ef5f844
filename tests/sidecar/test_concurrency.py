"""Two turns at once, sessions freed after failures, and each tier stopped while turns run."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from agentmemory_sidecar.resource.session import OnConflict
from agentmemory_sidecar.stores.protocols import Conversation
from tests.claude import StrictClaude
from tests.servers import KillablePostgres, KillableValkey
from tests.sidecar.faults.agent import Agent, Outcome
from tests.sidecar.faults.checks import check, held, settle
from tests.sidecar.faults.driving import BUSY, finish, persist, turn
from tests.sidecar.faults.stores import Kind
from tests.sidecar.faults.world import SPEC, Backend, World, open_backend, open_world

NOTE = '[[tool: note {{"text": "{0}"}}]][[then]][[say: Noted.]] Write {0} down.'
UPSTREAM = (
    "529", "500", "429 retry_after=0", "error_event after=0", "error_event after=7", "fin after=4", "rst after=4",
    "cut_frame after=3", "no_message_delta", "no_message_stop",
)  # fmt: skip


@pytest.fixture
async def backend(valkey_url: str, database: str, claude: StrictClaude) -> AsyncIterator[Backend]:
    async with open_backend(valkey_url, database, claude) as opened:
        yield opened


# ---------------------------------------------------------------------------------------------------- two at once


@pytest.mark.parametrize("same", [True, False], ids=["identical", "different"])
@pytest.mark.parametrize("hot", [True, False], ids=["redis", "degraded"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_exactly_one_of_two_turns_runs(backend: Backend, same: bool, hot: bool, stream: bool) -> None:
    async with open_world(backend) as world:
        first, second = world.agent(), world.agent()
        if not hot:
            for node in world.nodes:
                node.faults.down.add("hot")
        first.ask("What is it?")
        second.ask("What is it?" if same else "Who is it?")
        slow = "slow_first_byte ms=300"
        both = await asyncio.gather(
            world.send(first, world.nodes[0], stream=stream, fault=slow),
            world.send(second, world.nodes[1], stream=stream, fault=slow),
        )
        (refused,) = [attempt for attempt in both if not attempt.acknowledged]
        assert refused.status == 409
        assert refused.headers["x-should-retry"] == "false"
        assert refused.error == {
            "type": "conflict_error",
            "message": "Concurrent process active.",
            "details": {"error_code": "concurrent_process_active"},
        }
        assert len(backend.claude.turns) == 1
        assert await held(world) == ([], 0)
        for node in world.nodes:
            node.faults.clear()
        await turn(world, first, "And now?", stream=stream)
        await settle(world)
        await check(world)


@pytest.mark.parametrize("hot", [True, False], ids=["redis", "degraded"])
async def test_a_queue_serves_both(backend: Backend, hot: bool) -> None:
    async with open_world(backend, on_conflict=OnConflict.WAIT, max_wait_s=30.0) as world:
        for node in world.nodes:
            node.faults.down |= set() if hot else {"hot"}
        agents = [world.agent() for _ in range(2)]
        for number, agent in enumerate(agents):
            agent.ask(f"Question {number}?")
        sent = zip(agents, world.nodes, strict=True)
        both = await asyncio.gather(*(world.send(agent, node, fault="slow_first_byte ms=100") for agent, node in sent))
        assert all(attempt.acknowledged for attempt in both)
        await settle(world)
        found = await check(world)
        assert found["root"].turn == 2


async def test_a_lock_got_in_the_queue_after_redis_returned_is_released(backend: Backend) -> None:
    async with open_world(backend, on_conflict=OnConflict.WAIT, max_wait_s=30.0) as world:
        first, second = world.agent(), world.agent()
        first.ask("One?")
        second.ask("Two?")
        for node in world.nodes:
            node.faults.down.add("hot")
        slow = asyncio.ensure_future(world.send(first, world.nodes[0], fault="slow_first_byte ms=400"))  # noqa: TID251
        await backend.claude.received(1)
        waiting = asyncio.ensure_future(world.send(second, world.nodes[1], fault="529"))  # noqa: TID251
        while "hot.begin" not in world.nodes[1].faults.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for node in world.nodes:
            node.faults.clear()
        assert (await slow).acknowledged
        assert (await waiting).status == 529
        assert await held(world) == ([], 0)


async def test_a_lost_renewal_leaves_the_others_alone(backend: Backend) -> None:
    """Degraded: one session's lock was lost to another sidecar; the locks of other sessions are still renewed."""
    async with open_world(backend, ttl_s=0.6, pause_s=1.0) as world:
        agent, rival = world.agent(), world.agent()
        node, other = world.nodes
        node.faults.down.add("hot")
        other.faults.down.add("hot")
        agent.ask("Slow?")
        rival.ask("Quick?")
        node.faults.plan(Kind.PAUSED_BEFORE, name="state.lock", skip=1)
        slow = asyncio.ensure_future(world.send(agent, node, fault="slow_first_byte ms=1500"))  # noqa: TID251
        while not node.faults.happened and not slow.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert node.faults.happened, "the lock was never renewed"
        attempt = await world.send(rival, other)
        while attempt.code == BUSY:
            await asyncio.sleep(0.05)
            attempt = await world.send(rival, other, fault="slow_first_byte ms=800")
        assert attempt.acknowledged
        assert (await slow).code == "turn_fenced"
        node.faults.clear()
        agent.messages = []
        agent.ask("Slow again?")
        slow = asyncio.ensure_future(world.send(agent, node, fault="slow_first_byte ms=1500"))  # noqa: TID251
        while await held(world) == ([], 0) and not slow.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while not slow.done():
            if await held(world) == ([], 0):
                # Released at its end, before its client hears of it; an expiry would come 0.9 s before that.
                await asyncio.wait({slow}, timeout=0.3)
                assert slow.done(), "the lock of a running step expired"
            await asyncio.sleep(0.05)
        assert (await slow).acknowledged


# ------------------------------------------------------------------------------------------------- upstream failures


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
@pytest.mark.parametrize("fault", UPSTREAM)
async def test_free_at_once_after_an_upstream_failure(backend: Backend, fault: str, stream: bool) -> None:
    async with open_world(backend, nodes=1) as world:
        agent = world.agent()
        await turn(world, agent, "Begin.")
        agent.ask("Does it fail?")
        attempt = await world.send(agent, world.nodes[0], stream=stream, fault=fault)
        locks = await held(world)
        if attempt.acknowledged:  # a fault that JSON replies do not have
            assert not stream
        else:
            assert attempt.outcome is Outcome.FAILED
        assert locks == ([], 0)
        again = await world.send(agent.twin(), world.nodes[0], stream=stream)
        assert again.acknowledged
        await settle(world)
        await check(world)


@pytest.mark.parametrize("frames", [-1, 0, 1, 4])
async def test_free_when_the_client_has_left(backend: Backend, frames: int) -> None:
    async with open_world(backend, nodes=1) as world:
        agent = world.agent()
        agent.ask("Is anybody there? [[long: 400]]")
        await world.send(agent, world.nodes[0], fault="slow_events ms=20", leave_after=frames)
        while world.nodes[0].sidecar.services.flights:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await held(world) == ([], 0)
        await settle(world)
        assert not await backend.stores.state.agents(world.config.tenant, world.session)


# ------------------------------------------------------------------------------------------------- partial thinking


async def half_a_reply(backend: Backend, fault: str, *, kill: bool = False) -> None:
    """A failed attempt leaves thinking with the client; much later, and without Redis, the conversation goes on."""
    async with open_world(backend) as world:
        agent = world.agent()
        await turn(world, agent, NOTE.format("heliotrope"))
        agent.ask("What was the code word? [[think: Let me see.]] [[long: 60]]")
        node = world.nodes[0]
        if kill:
            sending = asyncio.ensure_future(world.send(agent, node, fault="slow_events ms=10"))  # noqa: TID251
            before = len(world.attempts)
            while len(world.attempts) == before or not world.attempts[-1].kept_blocks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            node.faults.killed.set()
            failed = await sending
            for key in await world.keys("lock"):
                await backend.redis.delete(key)
            await world.replace_killed()
            assert agent.keep_half(failed, "Go on.")
            await turn_of_pending(world, agent)
        else:
            failed = await world.send(agent, node, fault=fault)
            assert agent.keep_half(failed, "Go on.")
        assert failed.message["content"][0]["signature"]
        await world.empty_hot()
        for each in world.nodes:
            each.sidecar.services.now = lambda: time.time() + 1_200
        if not kill:
            await turn_of_pending(world, agent)
        await turn(world, agent, "And the colour?")
        await settle(world)
        await check(world)


async def turn_of_pending(world: World, agent: Agent) -> None:
    await finish(world, agent, await persist(world, agent))


@pytest.mark.parametrize("fault", ["fin after=20", "error_event after=20", "rst after=20"])
async def test_half_a_reply_goes_on_after_a_pause_without_redis(backend: Backend, fault: str) -> None:
    await half_a_reply(backend, fault)


async def test_half_a_reply_of_a_killed_sidecar_goes_on_without_redis(backend: Backend) -> None:
    await half_a_reply(backend, "", kill=True)


# ------------------------------------------------------------------------------------------------- tiers that stop

Killables = tuple[KillableValkey, KillablePostgres]


@pytest.fixture
async def killables(
    killable_valkey: Callable[[], Awaitable[KillableValkey]],
    killable_postgres: Callable[[], Awaitable[KillablePostgres]],
) -> Killables:
    return await killable_valkey(), await killable_postgres()


@pytest.mark.parametrize("way", ["killed", "paused"])
async def test_turns_run_without_redis(killables: Killables, claude: StrictClaude, way: str) -> None:
    valkey, postgres = killables
    async with (
        open_backend(valkey.url, postgres.dsn, claude, hot_timeout_s=0.5) as backend,
        open_world(backend) as world,
    ):
        agent = world.agent()
        await turn(world, agent, NOTE.format("before"))
        await (valkey.kill() if way == "killed" else asyncio.to_thread(valkey.pause))
        await turn(world, agent, NOTE.format("during"))
        assert "degraded" in world.attempts[-1].headers["x-agentmemory-flags"]
        second = agent.twin()
        second.ask("At once?")
        agent.ask("Slowly?")
        slow = asyncio.ensure_future(world.send(agent, world.nodes[0], fault="slow_first_byte ms=1500"))  # noqa: TID251
        while await world.item_locks() == 0 and not slow.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (await world.send(second, world.nodes[1])).code == BUSY
        assert (await slow).acknowledged
        agent.give_up()
        if way == "killed":
            await valkey.restart()
        else:
            valkey.resume()  # with the copy it had
        for node in world.nodes:
            node.sidecar.services.hot_health.worked()
        await turn(world, agent, NOTE.format("after"))
        await settle(world)
        found = await check(world)
        assert [call["text"] for call in found["root"].calls("note")] == ["before", "during", "after"]


@pytest.mark.parametrize("way", ["killed", "paused"])
async def test_state_tier_stopped_refuses(killables: Killables, claude: StrictClaude, way: str) -> None:
    valkey, postgres = killables
    async with (
        open_backend(valkey.url, postgres.dsn, claude, state_timeout_s=1.0) as backend,
        open_world(backend) as world,
    ):
        agent = world.agent()
        await turn(world, agent, "Begin.")
        asked = len(claude.turns)
        await (postgres.kill() if way == "killed" else asyncio.to_thread(postgres.pause))
        agent.ask("Is it there?")
        attempt = await agent.send(world.nodes[0].url)
        assert (attempt.status, attempt.code, attempt.outcome) == (503, "memory_unavailable", Outcome.FAILED)
        assert len(claude.turns) == asked, "forwarded though it could not be saved"
        await (postgres.restart() if way == "killed" else asyncio.to_thread(postgres.resume))
        agent.give_up()
        assert await held(world) == ([], 0)
        await turn(world, agent, "And now?")
        await settle(world)
        await check(world)


async def test_state_tier_stopped_passes_through(killables: Killables, claude: StrictClaude) -> None:
    valkey, postgres = killables
    spec = SPEC.replace("state: {", "state: {onUnavailable: PassThrough, ")
    async with (
        open_backend(valkey.url, postgres.dsn, claude, state_timeout_s=1.0) as backend,
        open_world(backend, spec=spec) as world,
    ):
        agent = world.agent()
        await turn(world, agent, NOTE.format("before"))
        await postgres.kill()
        for stream in (True, False):
            agent.ask("Do you go on?")
            attempt = await agent.send(world.nodes[0].url, stream=stream)
            assert attempt.acknowledged
            assert attempt.commit == "not-remembered"
            assert "not-remembered" in attempt.headers["x-agentmemory-flags"]
            agent.take(attempt)
        said = world.nodes[0].sidecar.services.metrics
        assert said.turns.labels("not-remembered")._value.get() == 2
        await postgres.restart()
        assert await held(world) == ([], 0)
        world.attempts.clear()
        await turn(world, agent, NOTE.format("after"))
        await settle(world)


async def test_archive_stopped_delays_nothing(backend: Backend) -> None:
    async with open_world(backend) as world:
        agent = world.agent()
        for node in world.nodes:
            node.faults.down |= {"records", "blobs"}
        await turn(world, agent, NOTE.format("one") + " Long. " * 300)
        await turn(world, agent, "Two?")
        stored = await backend.stores.state.read(Conversation(world.config.tenant, world.session))
        assert stored.body
        assert await backend.stores.state.pending(world.config.tenant)
        await settle(world)
        found = await check(world)
        assert len(found["root"].steps) == 3
