"""Subagents: conversations of their own beside the main one, and one state for all of a session."""

import asyncio
from collections.abc import Callable

import msgspec

from agentmemory_sidecar.stores.protocols import Conversation
from tests.claude import Match, Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, todos, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.stand import Stand


async def test_subagents_run_beside_the_main_conversation_and_what_they_do_arrives_once(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    rule = {"tools": ["look"], "when": "Call", "from": "/note", "to": "/extracted_context/notes", "op": "Append"}
    stand = await start({"extraction": {"rules": [rule]}})
    agent = connect(stand)
    await agent.good("Begin.")
    names = ["a0", "a1", "a2"]
    agents = [agent, *(agent.fresh(headers={"x-claude-code-agent-id": name}) for name in names)]
    for name in ("root", *names):
        note = {"type": "tool_use", "name": "look", "input": {"note": [f"by {name}"]}}
        claude.script(Reply(blocks=[note], match=Match(agent=name), first_byte_ms=50, times=2))
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(one.good("Go on.")) for one in agents]
    async with asyncio.TaskGroup() as group:
        for one, answer in zip(agents, asked, strict=True):
            group.create_task(one.results(answer.result()))
    await stand.settled()

    assert asked[0].result().receipt["turn"] == "2"
    expected = sorted(f"by {name}" for name in ("root", *names) for _ in range(2))
    assert sorted((await stand.state(agent.session))["extracted_context"]["notes"]) == expected
    assert await stand.turn(agent.session) == 3
    for name in names:
        assert await stand.turn(agent.session, name) == 2
        assert not (await stand.item(agent.session, name)).patches
        # Whoever helps again changes nothing.
        await stand.services.patches.apply(Conversation(stand.config.tenant, agent.session, name))
    assert sorted((await stand.state(agent.session))["extracted_context"]["notes"]) == expected
    assert unharmed(claude)


async def test_to_do_list_of_a_subagent_is_the_sessions(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await agent.good("Begin.")
    sub = agent.fresh(headers={"x-claude-code-agent-id": "a1"})
    claude.script(Reply(blocks=[todos("look into the key")]))
    await sub.results(await sub.good("You are a subagent."))
    await stand.settled()

    assert await stand.sub_tasks(agent.session) == ["look into the key"]
    await agent.good("What of the key?")
    assert "look into the key" in injections(claude.requests[-1].messages)[-1]
    _, _, shown = await stand.admin("GET", f"/v1/sessions/{agent.session}")
    assert [one["agent"] for one in msgspec.json.decode(shown)["conversations"]] == ["root", "a1"]


async def test_patch_that_fits_no_more_is_kept_as_a_conflict_and_holds_nothing_up(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    rule = {"tools": ["look"], "when": "Call", "from": "/note", "to": "/extracted_context/notes", "op": "Append"}
    stand = await start({"extraction": {"rules": [rule]}})
    agent = connect(stand)
    await agent.good("Begin.")
    sub = agent.fresh(headers={"x-claude-code-agent-id": "a1"})
    note = {"type": "tool_use", "name": "look", "input": {"note": ["a note"]}}
    claude.script(Reply(blocks=[note, todos("look into the key")], first_byte_ms=150))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(sub.good("You are a subagent."))
        await claude.received(2)
        await stand.remember(agent.session, {"extracted_context": {"notes": "no list any more"}})
    await sub.results(asking.result())
    claude.script(Reply(blocks=[todos("done")]))
    await sub.good("Go on.")
    await stand.settled()

    assert (await stand.state(agent.session))["extracted_context"]["notes"] == "no list any more"
    assert await stand.sub_tasks(agent.session) == ["done"]
    assert not (await stand.item(agent.session, "a1")).patches
    (conflict,) = (await stand.item(agent.session)).conflicts
    assert b"a note" in conflict.operations
    assert stand.metric("state_conflicts") == 1


async def test_big_value_of_a_subagent_is_linked_too(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(stand, extra={"max_tokens": 60_000})
    plan = "A plan of the hall. " * 5_000
    sub = agent.fresh(headers={"x-claude-code-agent-id": "a1"})
    claude.script(Reply(blocks=[todos(plan)]))
    await sub.results(await sub.good("You are a subagent."))
    await stand.settled()

    for name in ("root", "a1"):
        assert len((await stand.stored(agent.session, name)).body) < 50_000
    _, _, body = await stand.admin("GET", f"/v1/sessions/{agent.session}/state")
    assert msgspec.json.decode(body)["active_mission"]["sub_tasks"] == [plan.strip()]


async def test_subagent_may_come_before_the_main_conversation(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    sub = agent.fresh(headers={"x-claude-code-agent-id": "a1", "X-User": "anna"})
    claude.script(Reply(blocks=[todos("look into the key")]))
    await sub.results(await sub.good("You are a subagent."))
    await stand.settled()

    answer = await agent.good("What of the key?")

    assert answer.receipt["turn"] == "1"
    assert await stand.sub_tasks(agent.session) == ["look into the key"]


async def test_patch_of_a_subagent_is_seen_before_it_is_applied(
    stand: Stand, agent: Agent, claude: StrictClaude
) -> None:
    """A subagent reads its own writes even while they wait in its outbox."""
    sub = agent.fresh(headers={"x-claude-code-agent-id": "a1"})
    claude.script(Reply(blocks=[todos("look into the key")]))
    await sub.results(await sub.good("You are a subagent."))

    await sub.good("What of the key?")

    assert "look into the key" in injections(claude.requests[-1].messages)[-1]
