"""Two requests at once on one conversation: one runs, the other is refused or waits."""

import asyncio
from collections.abc import Callable

import pytest

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, busy, todos, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.stand import Json, Stand

QUESTION: list[Json] = [{"role": "user", "content": "Go."}]
OTHER: list[Json] = [{"role": "user", "content": "Go elsewhere."}]


@pytest.mark.parametrize("messages", [QUESTION, OTHER], ids=["the same", "another"])
@pytest.mark.parametrize("stream", [True, False])
async def test_second_request_is_refused_with_the_documented_409(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, messages: list[Json], stream: bool
) -> None:
    agent = connect(stand)
    async with busy(agent, claude, messages=QUESTION):
        answer = await agent.fresh(stream=stream).send(messages=messages)

    request_id = answer.headers["request-id"]
    assert answer.status == 409
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["content-type"] == "application/json"
    assert answer.message == {
        "type": "error",
        "error": {
            "type": "conflict_error",
            "message": "Concurrent process active.",
            "details": {"error_code": "concurrent_process_active"},
        },
        "request_id": request_id,
    }
    assert len(claude.requests) == 1
    assert stand.metric("refused_steps") == 1


async def test_refused_request_leaves_the_running_one_alone_and_is_recorded(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(stand)
    claude.script(Reply(first_byte_ms=300))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(agent.good("Go."))
        await claude.received(1)
        assert (await agent.fresh().send(messages=OTHER)).status == 409
    await stand.settled()
    await agent.good("And on.")
    await stand.settled()

    assert running.result().receipt["turn"] == "1"
    kinds = [record["kind"] for record in await stand.records(agent.session)]
    assert kinds.count("refused") == 1
    assert kinds.count("step") == 2


async def test_exactly_one_of_many_at_once_runs(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(first_byte_ms=300, times=0))
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(agent.fresh().send(messages=QUESTION)) for _ in range(6)]

    assert sorted(one.result().status for one in asked) == [200, 409, 409, 409, 409, 409]
    assert await stand.turn(agent.session) == 1


async def test_other_sessions_and_subagents_are_not_held_up(
    stand: Stand, connect: Callable[..., Agent], agent: Agent, claude: StrictClaude
) -> None:
    async with busy(agent, claude, messages=QUESTION):
        other = await connect(stand).send(messages=QUESTION)
        sub = await agent.fresh(headers={"x-claude-code-agent-id": "a1"}).send(messages=QUESTION)

    assert (other.commit, sub.commit) == ("committed", "committed")


async def test_wait_queues_the_second(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    stand = await start({"session": {"lock": {"onConflict": "Wait", "maxWait": "60s"}}})
    agent = connect(stand)
    claude.script(Reply(first_byte_ms=200, times=0))
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(agent.fresh().send(messages=[{"role": "user", "content": f"{n}"}])) for n in range(3)
        ]

    assert sorted(one.result().receipt["turn"] for one in asked) == ["1", "2", "3"]
    assert all(one.result().commit == "committed" for one in asked)


async def test_wait_ends(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    stand = await start({"session": {"lock": {"onConflict": "Wait", "maxWait": "300ms"}}})
    agent = connect(stand)
    async with busy(agent, claude, messages=QUESTION):
        answer = await agent.fresh().send(messages=OTHER)

    assert (answer.status, answer.code) == (409, "concurrent_process_active")


@pytest.mark.parametrize("threads", [False, True])
async def test_turn_scope_reserves_the_session_between_steps(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude, threads: bool
) -> None:
    stand = await start({"session": {"lock": {"scope": "Turn"}}})
    agent = connect(stand, headers={"anthropic-beta": "message-threads-2026-08-12"} if threads else {})
    claude.script(Reply(blocks=[todos("a")]), Reply(blocks=[todos("b")]))
    step = await agent.good("Plan.", **({"thread": {"type": "create"}} if threads else {}))

    assert (await agent.fresh().send(messages=OTHER)).status == 409
    for _ in range(2):
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "done"}
            for block in step.content
            if block["type"] == "tool_use"
        ]
        if threads:
            goes_on = {"type": "continue", "previous_message_id": step.message["id"]}
            step = await agent.send(
                messages=[{"role": "user", "content": results}], thread=goes_on, system=None, tools=None
            )
            assert step.commit == "committed", step.body
        else:
            step = await agent.good(results)

    # The turn is over: anyone may go on.
    assert (await agent.fresh().send(messages=OTHER)).commit == "committed"
    assert unharmed(claude)


async def test_failed_step_within_a_reserved_turn_can_be_sent_again(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start({"session": {"lock": {"scope": "Turn"}}})
    agent = connect(stand)
    claude.script(Reply(blocks=[todos("a")]), Reply(fault="fin"))
    step = await agent.good("Plan.")
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "done"}
        for block in step.content
        if block["type"] == "tool_use"
    ]
    assert (await agent.say(results)).cut

    assert (await agent.good(results)).receipt["turn"] == "2"


async def test_lock_is_renewed_while_a_step_runs(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start({"session": {"lock": {"ttl": "5s"}}})
    agent = connect(stand)
    async with busy(agent, claude, messages=QUESTION):
        assert len(stand.services.renewals) == 1
        (key,) = await stand.locks(agent.session)
        async with stand.redis() as client:
            await client.pexpire(key, 1_000_000)
            while await client.pttl(key) > 5_000:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    await stand.settled()

    assert len(stand.services.renewals) == 0
