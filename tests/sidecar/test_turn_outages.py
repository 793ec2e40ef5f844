"""A tier that is away: what the resource says happens, and nothing that was acknowledged is lost."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import msgspec
import pytest

from agentmemory_sidecar.step import commit
from tests.claude import Reply, StrictClaude
from tests.servers import KillableValkey
from tests.sidecar.agents import Agent, busy, injections, todos, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.stand import Json, Stand
from tests.sidecar.tiers import Tiers

QUESTION: list[Json] = [{"role": "user", "content": "Go."}]


# -------------------------------------------------------------------------------------------------------------- hot tier


@pytest.mark.parametrize("stream", [True, False])
async def test_turns_run_degraded_without_redis_and_lose_nothing(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude, stream: bool
) -> None:
    it: Tiers = await tiers()
    agent = connect(it.stand, stream=stream)
    claude.script(Reply(blocks=[todos("book the hall")]))
    await agent.results(await agent.good("Plan."))
    await it.hot.refuse()

    claude.script(Reply(blocks=[todos("book the hall", "bake the cake")]))
    step = await agent.good("What of the hall?")
    await agent.results(step)
    third = await agent.good("What of the cake?")

    assert {"degraded"} == step.flags == third.flags
    assert step.receipt["tier"] == "state"
    assert await it.stand.turn(agent.session) == 5
    assert await it.stand.sub_tasks(agent.session) == ["book the hall", "bake the cake"]
    assert it.stand.metric("degraded_steps") == 3

    await it.hot_is_back()
    back, last = await agent.good("And the hall?"), await agent.good("And then?")

    assert (back.flags, last.flags) == (set(), set())
    # The hot copy of before the outage is older than the item: it must not be used.
    assert (back.receipt["tier"], last.receipt["tier"]) == ("state", "hot")
    assert unharmed(claude)
    assert "bake the cake" in "".join(injections(claude.requests[-1].messages))


async def test_degraded_lock_keeps_the_second_out_and_is_free_afterwards(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    it: Tiers = await tiers()
    await it.hot.refuse()
    agent = connect(it.stand)
    async with busy(agent, claude, messages=QUESTION):
        refused = await agent.fresh().send(messages=QUESTION)
    assert (refused.status, refused.code) == (409, "concurrent_process_active")

    await it.stand.settled()
    claude.script(Reply(fault="no_message_stop"))
    assert (await agent.send(messages=QUESTION)).cut
    assert (await agent.good("Go.")).receipt["turn"] == "1"


async def test_redis_that_hangs_delays_a_step_once_and_not_each(
    tiers: Callable[..., Any], connect: Callable[..., Agent]
) -> None:
    it: Tiers = await tiers({"ephemeral": {"timeout": "100ms"}})
    agent = connect(it.stand)
    it.hot.blackhole()

    answers = [await agent.good("Go.") for _ in range(3)]

    assert all(answer.flags == {"degraded"} for answer in answers)
    assert await it.stand.turn(agent.session) == 3


async def test_redis_may_be_demanded(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    it: Tiers = await tiers({"ephemeral": {"onUnavailable": "Refuse"}})
    await it.hot.refuse()
    agent = connect(it.stand)

    answer = await agent.send(messages=QUESTION)

    assert (answer.status, answer.code, answer.headers["x-should-retry"]) == (503, "memory_unavailable", "true")
    assert "hot tier" in answer.error["message"]
    assert claude.requests == []
    await it.hot_is_back()
    assert (await agent.good("Go.")).receipt["turn"] == "1"


async def test_redis_lost_while_claude_answers(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    """The lock and the copy that Redis holds then are of no use to anybody, and harm nobody."""
    it: Tiers = await tiers()
    agent = connect(it.stand)
    await agent.good("Begin.")
    claude.script(Reply(blocks=[todos("book the hall")], first_byte_ms=200))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.good("Plan."))
        await claude.received(2)
        await it.hot.refuse()
    assert asking.result().receipt["turn"] == "2"

    # A turn in Redis's absence, and one after its return; the dead lock is there still and runs out by itself.
    await agent.results(asking.result())
    await it.hot.heal()
    async with it.stand.redis() as client:
        for key in await it.stand.locks(agent.session):
            await client.delete(key)
    await it.hot_is_back()
    last = await agent.good("And then?")

    assert (last.receipt["turn"], last.receipt["tier"]) == ("4", "state")
    assert await it.stand.sub_tasks(agent.session) == ["book the hall"]
    assert unharmed(claude)


async def test_killed_and_restarted_redis_is_trusted_no_further_than_it_should(
    killable_valkey: Callable[[], Any], start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    server: KillableValkey = await killable_valkey()
    stand = await start(redis=server.url)
    agent = connect(stand)
    claude.script(Reply(blocks=[todos("book the hall")]))
    await agent.results(await agent.good("Plan."))

    await server.kill()
    degraded = await agent.good("What of the hall?")
    await server.restart()
    stand.services.hot_health.worked()
    back, then = await agent.good("And now?"), await agent.good("And then?")

    assert degraded.flags == {"degraded"}
    assert (back.receipt["tier"], then.receipt["tier"]) == ("state", "hot")
    assert await stand.turn(agent.session) == 5
    assert unharmed(claude)


# ------------------------------------------------------------------------------------------------------------ state tier


@pytest.mark.parametrize("stream", [True, False])
async def test_nothing_is_forwarded_that_could_not_be_saved(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude, stream: bool
) -> None:
    it: Tiers = await tiers()
    agent = connect(it.stand, stream=stream)
    await agent.good("Begin.")
    await it.state.refuse()

    answer = await agent.say("Go on.")

    assert (answer.status, answer.code, answer.headers["x-should-retry"]) == (503, "memory_unavailable", "true")
    assert "state tier" in answer.error["message"]
    assert "Nothing was sent to Claude" in answer.error["message"]
    assert len(claude.requests) == 1
    assert it.stand.metric("state_unavailable") >= 1
    # The lock went at once, so the session goes on as soon as the tier does.
    await it.state.heal()
    assert (await agent.good("Go on.")).receipt["turn"] == "2"


async def test_state_tier_that_is_behind_is_not_gone_on_with(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, dsn: str
) -> None:
    """Such as a standby that took over before it had the latest turn. Claude is not asked on the older state."""
    agent = connect(stand)
    for number in range(2):
        await agent.good(f"Go on, {number}.")
    stored = await stand.stored(agent.session)
    connection = await asyncpg.connect(dsn)
    set_back = "UPDATE agentmemory.items SET turn = turn + $2, version = version + $2 WHERE session = $1"
    await connection.execute(set_back, agent.session, -1)
    refused = await agent.send(messages=[*agent.messages, *QUESTION])
    await connection.execute(set_back, agent.session, 1)  # it has caught up
    await connection.close()
    again = await agent.good("Go on.")

    assert (refused.status, refused.code, refused.headers["x-should-retry"]) == (503, "memory_stale", "true")
    assert (again.receipt["turn"], stored.versions.turn) == ("3", 2)
    assert len(claude.requests) == 3
    assert await stand.is_free(agent.session)
    assert unharmed(claude)


@pytest.mark.parametrize("stream", [True, False])
async def test_agent_goes_on_unremembered_where_the_resource_says_so(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude, stream: bool
) -> None:
    it: Tiers = await tiers({"state": {"onUnavailable": "PassThrough"}})
    agent = connect(it.stand, stream=stream)
    await it.stand.remember(agent.session, {"extracted_context": {"hall": "Hugo opens the hall"}})
    await agent.good("Who opens the hall?")
    await it.state.refuse()

    answer = await agent.say("And the cellar?")

    assert (answer.status, answer.commit) == (200, "not-remembered")
    assert {"not-remembered"} <= answer.flags
    assert answer.receipt["tier"] == "none"
    assert it.stand.metric("steps", outcome="not-remembered") == 1
    # What Redis still has of the ledger is repeated; what is missing may be dropped, and Claude is told so.
    sent = claude.requests[-1]
    assert len(injections(sent.messages)) == 1
    assert sent.parsed["thinking"]["block_binding"] == {"prefix_mismatch_behavior": "drop_block"}
    assert "thinking-binding-controls-2026-08-01" in sent.headers["anthropic-beta"]
    assert unharmed(claude)

    await it.state.heal()
    back = await agent.good("Are you back?")
    assert (back.receipt["turn"], back.flags) == ("2", set())
    window = msgspec.json.encode((await it.stand.item(agent.session)).window)
    assert b"And the cellar?" in window  # the client's own history brings it back


async def test_memory_tool_says_that_there_is_no_memory(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    it: Tiers = await tiers({"state": {"onUnavailable": "PassThrough"}})
    agent = connect(it.stand, extra={"tools": [{"type": "memory_20250818", "name": "memory"}]})
    view = {"type": "tool_use", "name": "memory", "input": {"command": "view", "path": "/memories"}}
    await it.state.refuse()
    claude.script(Reply(blocks=["Let me see.", view]), "I know nothing.")

    answer = await agent.say("What do I like?")

    assert (answer.status, answer.commit, answer.text) == (200, "not-remembered", "Let me see.I know nothing.")
    (result,) = claude.requests[-1].messages[2]["content"]
    assert result["is_error"]
    assert "cannot be reached" in result["content"]


async def test_state_tier_lost_while_claude_answers_is_an_error_not_a_silent_loss(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "PAUSE_S", 0.001)
    it: Tiers = await tiers()
    agent = connect(it.stand)
    claude.script(Reply(blocks=[todos("never")], first_byte_ms=100))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.send(messages=QUESTION))
        await claude.received(1)
        await it.state.refuse()
    answer = asking.result()

    assert answer.cut
    assert answer.code == "memory_unavailable"
    assert "could not be saved" in answer.error["message"]
    assert "message_delta" not in answer.types
    await it.state.heal()
    assert await it.stand.turn(agent.session) == 0
    assert (await agent.good("Go.")).receipt["turn"] == "1"


async def test_short_loss_of_the_state_tier_is_waited_for(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    it: Tiers = await tiers()
    agent = connect(it.stand)
    claude.script(Reply(first_byte_ms=100))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.good("Go."))
        await claude.received(1)
        await it.state.refuse()
        while claude.requests[0].verdict != "ok":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.15)
        await it.state.heal()

    assert asking.result().commit == "committed"


async def test_lost_answer_to_the_write_is_no_refusal(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    it: Tiers = await tiers()
    agent = connect(it.stand)
    claude.script(Reply(first_byte_ms=150))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.good("Go."))
        await claude.received(1)
        while len(it.stand.services.tasks) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        it.state.lose_next_reply()

    assert asking.result().receipt["turn"] == "1"
    assert it.state.replies_lost == 1
    assert await it.stand.turn(agent.session) == 1


# --------------------------------------------------------------------------------------------------- archive and blobs


async def test_all_stores_away_is_a_503_and_no_more(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    it: Tiers = await tiers()
    for tier in (it.hot, it.state, it.archive):
        await tier.refuse()
    agent = connect(it.stand)

    answer = await agent.send(messages=QUESTION)
    through = await agent.fresh(path="/v1/messages/count_tokens", extra={"stream": None, "max_tokens": None}).send(
        messages=QUESTION
    )

    assert (answer.status, answer.code) == (503, "memory_unavailable")
    assert through.status == 200
    _, _, ready = await it.stand.admin("GET", "/readyz")
    assert msgspec.json.decode(ready)["stores"] == {"hot": False, "state": False, "archive": False}
    assert (await it.stand.admin("GET", "/healthz"))[0] == 200
