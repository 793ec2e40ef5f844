"""One state for all sessions of a project: turns run side by side, and what they change meets in the project's item."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.stores.protocols import Conversation
from tests.claude import Match, Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, todos, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.stand import Json, Stand

NOTE = {"tools": ["look"], "when": "Call", "from": "/note", "to": "/extracted_context/notes", "op": "Append"}
SPEC: Json = {
    "state": {"scope": "Project"},
    "session": {"identity": {"projectHeaders": ["X-Project"]}},
    "extraction": {"rules": [NOTE]},
}


Wrote = Callable[[Json], Awaitable[Item]]


def note(text: str) -> Json:
    return {"type": "tool_use", "name": "look", "input": {"note": [text]}}


async def project(stand: Stand, name: str) -> Item:
    return await stand.item(Conversation.shared("", "project", name).session)


@pytest.fixture
async def both_wrote(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> Wrote:
    """``item = await both_wrote(state)``: the project's item after two users wrote one list at once."""

    async def write(state: Json) -> Item:
        stand = await start(SPEC | {"state": {"scope": "Project", **state}})
        anna, ben = (member(connect, stand, "apollo") for _ in range(2))
        for agent, task in ((anna, "by anna"), (ben, "by ben")):
            claude.script(Reply(blocks=[todos(task)], match=Match(session=agent.session), first_byte_ms=100))
        async with asyncio.TaskGroup() as group:
            for agent in (anna, ben):
                group.create_task(agent.good("Plan."))
        await stand.settled()
        await stand.services.archiver.sweep()
        return await project(stand, "apollo")

    return write


def member(connect: Callable[..., Agent], stand: Stand, name: str) -> Agent:
    return connect(stand, headers={"X-Project": name})


async def test_what_one_session_learns_another_of_the_project_is_told(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    anna, ben, other = (member(connect, stand, name) for name in ("apollo", "apollo", "gemini"))
    claude.script(Reply(blocks=[todos("tighten the valve")]))
    await anna.results(await anna.good("Begin."))
    await stand.settled()

    await ben.good("What about the valve?")
    assert "tighten the valve" in injections(claude.requests[-1].messages)[-1]
    await other.good("What about the valve?")
    assert not any("tighten" in text for text in injections(claude.requests[-1].messages))
    assert (await stand.state(anna.session)) == {}
    assert unharmed(claude)


async def test_turns_of_a_project_run_side_by_side_and_each_change_arrives_once(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    one = await start(SPEC)
    two = await start(one.config)
    agents = [member(connect, stand, "apollo") for stand in (one, two) for _ in range(4)]
    for agent in agents:
        claude.script(
            Reply(blocks=[note(f"by {agent.session}")], match=Match(session=agent.session), first_byte_ms=50, times=2)
        )
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(agent.good("Look.")) for agent in agents]
    async with asyncio.TaskGroup() as group:
        for agent, answer in zip(agents, asked, strict=True):
            group.create_task(agent.results(answer.result()))
    await one.settled()
    await two.settled()
    for stand in (one, two):
        await stand.services.archiver.sweep()

    item = await project(one, "apollo")
    notes = item.state.decode()
    assert all(notes.count(f"by {agent.session}") == 2 for agent in agents)
    assert not item.conflicts
    for agent in agents:
        assert not (await one.item(agent.session)).patches
        await one.services.patches.apply(Conversation(one.config.tenant, agent.session))
    assert (await project(one, "apollo")).state == item.state
    assert unharmed(claude)


async def test_list_that_two_users_write_at_once_is_kept_as_a_conflict_not_overwritten(both_wrote: Wrote) -> None:
    item = await both_wrote({})
    (conflict,) = item.conflicts
    assert (b"by anna" in item.state) != (b"by ben" in item.state)
    assert (b"by anna" in conflict.operations) or (b"by ben" in conflict.operations)


async def test_lists_are_united_where_the_resource_says_so(both_wrote: Wrote) -> None:
    item = await both_wrote({"merge": [{"pointer": "/active_mission/sub_tasks", "strategy": "Union"}]})
    assert b"by anna" in item.state
    assert b"by ben" in item.state
    assert not item.conflicts


async def test_a_users_state_is_with_all_of_the_users_sessions_and_no_others(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start({"state": {"scope": "User"}})
    laptop, phone, stranger = (connect(stand, headers={"X-User": name}) for name in ("anna", "anna", "ben"))
    claude.script(Reply(blocks=[todos("tighten the valve")]))
    await laptop.results(await laptop.good("Begin."))
    await stand.settled()

    await phone.good("What about the valve?")
    assert "tighten the valve" in injections(claude.requests[-1].messages)[-1]
    await stranger.good("What about the valve?")
    assert not any("tighten" in text for text in injections(claude.requests[-1].messages))
    item = await stand.item(Conversation.shared("", "user", "anna").session)
    assert (item.subject, item.user) == ("user:anna", "anna")
    status, _, body = await stand.admin("GET", "/v1/users/anna/state")
    assert status == 200
    assert b"tighten the valve" in body
    assert (await stand.admin("GET", "/v1/projects/anna/state"))[0] == 404
    assert unharmed(claude)


async def test_session_without_a_project_keeps_its_own_state(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    alone = connect(stand)
    claude.script(Reply(blocks=[todos("mine")]))
    await alone.results(await alone.good("Begin."))
    assert await stand.sub_tasks(alone.session) == ["mine"]


async def test_an_id_cannot_name_a_projects_item(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    item = Conversation.shared(stand.config.tenant, "project", "apollo")
    assert any(ord(character) < 32 for character in item.session)  # and such ids are refused (wire/identify.py)
