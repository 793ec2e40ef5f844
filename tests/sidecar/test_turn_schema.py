"""The declared form of a state: what reaches prompts, what is refused, and sidecars of two forms at once."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agentmemory_sidecar.memory.conflicts import listed
from agentmemory_sidecar.stores.protocols import Conversation
from tests.claude import Reply, StrictClaude
from tests.ministack import Ministack
from tests.sidecar.agents import Agent, injections, unharmed
from tests.sidecar.conftest import Configure, Start
from tests.sidecar.stand import Json, Stand, merged
from tests.sidecar.test_turn_regions import elsewhere, spread

pytestmark = pytest.mark.xdist_group("ministack")

TICKET: Json = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 8, "pinned": True},
        "status": {"enum": ["new", "open", "done"], "default": "new"},
        "mail": {"type": "string", "neverInPrompt": True, "pii": True},
        "past": {"type": "string", "archived": True},
    },
}
NOTES: Json = {"type": "array", "maxItems": 3, "items": {"type": "string"}}
RULES = [
    {"tools": ["note"], "when": "Call", "from": "/text", "to": "/extracted_context/notes", "op": "Append"},
    {"tools": ["ticket"], "when": "Call", "to": "/extracted_context/ticket", "op": "Merge"},
]
MOVE = {"op": "move", "from": "/extracted_context/notes", "path": "/extracted_context/journal"}
NEW_RULES = [{**RULES[0], "to": "/extracted_context/journal"}, RULES[1]]
OLD: Json = {"extraction": {"rules": RULES}}


def schema(version: str = "2.1", **context: Json) -> Json:
    members = {"extracted_context": {"properties": {"ticket": TICKET, **context}}}
    return {"state": {"schema": {"version": version, "definition": {"properties": members}}}}


NEW: Json = merged(
    {"extraction": {"rules": NEW_RULES}},
    merged(schema("3", journal=NOTES), {"state": {"migrations": [{"from": "2.1", "to": "3", "patch": [MOVE]}]}}),
)
"""The notes are called journal there."""


def call(tool: str, **given: Any) -> Json:
    return {"type": "tool_use", "name": tool, "input": given}


async def step(agent: Agent, claude: StrictClaude, *calls: Json) -> None:
    """A turn whose first reply calls these tools."""
    claude.script(Reply(blocks=list(calls)))
    await agent.results(await agent.good("Begin."))


async def conflicts(stand: Stand, session: str) -> list[Json]:
    return listed(await stand.item(session), stand.services.state.head)


async def newer(stand: Stand, configure: Configure, start: Start, spec: Json = NEW) -> Stand:
    """A sidecar of the same resource, after its form was changed."""
    form = configure(merged({"regions": list(stand.config.regions)} if stand.config.many_heads else {}, spec))
    changes = {name: getattr(form, name) for name in ("schema_version", "form", "extraction", "filter")}
    return await start(stand.config.model_copy(update=changes))


# -------------------------------------------------------------------------------------------------------------- classes


async def test_marks_decide_what_reaches_the_prompt(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(merged(OLD, schema()))
    agent = connect(stand)
    await step(agent, claude, call("ticket", id="T-1", mail="ann@example.org", past="lost parcel"))
    assert (await stand.state(agent.session))["extracted_context"]["ticket"] == {
        "status": "new", "id": "T-1", "mail": "ann@example.org", "past": "lost parcel",
    }  # fmt: skip

    await agent.good("What of the lost parcel of ann@example.org, is its status new?")

    (told,) = injections(claude.requests[-1].messages)
    assert "T-1" in told
    assert "status" in told
    assert "ann@" not in told
    assert "parcel" not in told
    assert unharmed(claude)


# ----------------------------------------------------------------------------------------------------------- validation


async def test_a_patch_that_does_not_fit_is_kept_whole_and_the_turn_commits(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(merged(OLD, schema(notes=NOTES)))
    agent = connect(stand)
    await step(agent, claude, call("note", text="one"))
    before = (await stand.item(agent.session)).state

    await step(agent, claude, call("note", text="two"), call("ticket", id="much too long", status="odd"))

    assert await stand.turn(agent.session) == 4
    assert (await stand.item(agent.session)).state == before
    (kept,) = await conflicts(stand, agent.session)
    assert {each["pointer"] for each in kept["operations"]["refused"]} == {
        "/extracted_context/ticket/id", "/extracted_context/ticket/status",
    }  # fmt: skip
    assert "too long" not in msgspec.json.encode(kept["operations"]["refused"]).decode()
    assert len(kept["operations"]["patch"]["operations"]) == 2
    assert stand.metric("state_conflicts") == 1

    await step(agent, claude, call("note", text="two"), call("ticket", id="T-2"))
    assert (await stand.state(agent.session))["extracted_context"]["notes"] == ["one", "two"]
    assert unharmed(claude)


async def test_a_state_that_never_fitted_can_be_changed_where_that_makes_it_no_worse(
    start: Start, configure: Configure, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    old = await start(OLD)
    agent = connect(old)
    await step(agent, claude, *(call("note", text=text) for text in "abcd"))
    stand = await newer(old, configure, start, merged(OLD, schema(notes=NOTES)))
    agent.url = stand.url

    await step(agent, claude, call("ticket", id="T-1"))
    assert (await stand.state(agent.session))["extracted_context"]["ticket"]["id"] == "T-1"
    await step(agent, claude, call("ticket", id="much too long"))
    assert len(await conflicts(stand, agent.session)) == 1


async def test_an_administrator_is_told_what_does_not_fit(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(merged(OLD, schema()))
    agent = connect(stand)
    await agent.good("Begin.")
    status, _, body = await stand.admin(
        "PATCH", f"/v1/sessions/{agent.session}/state",
        headers={"content-type": "application/merge-patch+json", "if-match": "*"},
        data={"extracted_context": {"ticket": {"id": "much too long"}}},
    )  # fmt: skip
    assert status == 400
    message = msgspec.json.decode(body)["error"]["message"]
    assert "/extracted_context/ticket/id" in message
    assert await stand.state(agent.session) == {}


# ----------------------------------------------------------------------------------------------------------- migrations


async def test_an_older_state_is_read_in_the_new_form_and_stored_with_the_next_change(
    start: Start, configure: Configure, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    old = await start(OLD)
    agent = connect(old)
    await step(agent, claude, call("note", text="the gate is blue"))
    before = (await old.item(agent.session)).state
    stand = await newer(old, configure, start)
    agent.url = stand.url

    await agent.good("What about the gate?")
    assert "/extracted_context/journal" in injections(claude.requests[-1].messages)[-1]
    assert (await stand.item(agent.session)).state == before

    await step(agent, claude, call("note", text="and open"))
    state = await stand.state(agent.session)
    assert state["metadata"]["v"] == "3"
    assert state["extracted_context"] == {"journal": ["the gate is blue", "and open"]}
    assert await conflicts(stand, agent.session) == []
    assert unharmed(claude)


async def test_a_patch_of_an_older_sidecar_waits_for_one_of_the_state_s_form(
    start: Start, configure: Configure, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    old = await start(OLD)
    new = await newer(old, configure, start)
    agent = connect(new)
    await step(agent, claude, call("note", text="by new"), call("ticket", id="T-1", unknown={"to": [1.5, None]}))
    before = (await new.item(agent.session)).state

    agent.url = old.url
    await step(agent, claude, call("note", text="by old"), call("ticket", status="open"))
    await old.settled()
    await old.services.archiver.sweep()

    item = await old.item(agent.session)
    assert item.state == before
    assert [patch.version for patch in item.patches] == ["2.1"]
    assert await old.turn(agent.session) == 4

    agent.url = new.url
    await agent.good("What is by old?")
    assert "by old" in injections(claude.requests[-1].messages)[-1]
    await new.services.archiver.sweep()
    for _ in range(2):
        state = await new.state(agent.session)
        assert state["extracted_context"]["journal"] == ["by new", "by old"]
        assert state["extracted_context"]["ticket"] == {"status": "open", "id": "T-1", "unknown": {"to": [1.5, None]}}
        assert (await new.item(agent.session)).patches == []
        await new.services.archiver.sweep()
    assert await conflicts(new, agent.session) == []
    assert unharmed(claude)


async def test_what_waited_and_does_not_fit_is_kept(
    start: Start, configure: Configure, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    old = await start(OLD)
    new = await newer(old, configure, start)
    agent = connect(new)
    await step(agent, claude, call("note", text="by new"))
    agent.url = old.url
    await step(agent, claude, call("ticket", id="much too long"))
    await new.services.archiver.sweep()
    (kept,) = await conflicts(new, agent.session)
    assert kept["operations"]["refused"][0]["pointer"] == "/extracted_context/ticket/id"
    assert (await new.state(agent.session))["extracted_context"] == {"ticket": {"status": "new"}, "journal": ["by new"]}


async def test_a_project_s_newer_state_is_patched_by_who_knows_it(
    start: Start, configure: Configure, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    shared = {"state": {"scope": "Project"}, "session": {"identity": {"projectHeaders": ["X-Project"]}}}
    old = await start(merged(OLD, shared))
    new = await newer(old, configure, start)
    anna, ben = (connect(stand, headers={"X-Project": "apollo"}) for stand in (new, old))
    await step(anna, claude, call("note", text="by anna"))
    await new.settled()
    await step(ben, claude, call("note", text="by ben"))
    await old.settled()
    await old.services.archiver.sweep()
    project = Conversation.shared("", "project", "apollo").session
    assert (await new.state(project))["extracted_context"]["journal"] == ["by anna"]
    assert len((await old.item(ben.session)).patches) == 1

    await new.services.archiver.sweep()

    assert (await new.state(project))["extracted_context"]["journal"] == ["by anna", "by ben"]
    assert (await old.item(ben.session)).patches == []


async def test_states_can_be_migrated_without_waiting_for_a_change(
    start: Start, configure: Configure, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    old = await start(OLD)
    agent = connect(old)
    await step(agent, claude, call("note", text="one"))
    new = await newer(old, configure, start)
    for version in ("2.1", "3"):
        status, _, body = await new.admin("POST", f"/v1/sessions/{agent.session}/migration", data={})
        assert (status, msgspec.json.decode(body)) == (200, {"from": version, "to": "3", "problems": []})
    assert (await new.state(agent.session))["extracted_context"] == {"journal": ["one"]}
    agent.url = new.url
    await agent.good("Go on.")
    assert unharmed(claude)


async def test_what_tells_of_a_person_is_shown_only_to_who_asks(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(merged(OLD, schema()))
    agent = connect(stand)
    await step(agent, claude, call("ticket", id="T-1", mail="ann@example.org"))
    for query, told in (("", "(personal data)"), ("?pii=1", "ann@example.org")):
        _, _, body = await stand.admin("GET", f"/v1/sessions/{agent.session}{query}")
        assert msgspec.json.decode(body)["state"]["extracted_context"]["ticket"]["mail"] == told


# --------------------------------------------------------------------------------------------------------------- regions


async def test_regions_of_two_forms_lose_nothing(
    configure: Configure, start: Start, connect: Callable[..., Agent], ministack: Ministack, claude: StrictClaude
) -> None:
    east, west = await spread(configure, start, ministack, OLD)
    agent = connect(west)
    await step(agent, claude, call("note", text="before"))
    new_east = await newer(east, configure, start)
    agent.url = new_east.url
    await step(agent, claude, call("note", text="by east"))

    agent.url = west.url
    await step(agent, claude, call("note", text="by west"))
    await west.settled()
    here, there = await new_east.item(agent.session), await west.item(agent.session)
    assert here.state == there.state
    assert msgspec.json.decode(here.state)["extracted_context"] == {"journal": ["before", "by east"]}
    assert len(there.patches) == 1

    new_west = await start(elsewhere(new_east.config))
    await new_west.services.archiver.sweep()
    for stand in (new_east, new_west):
        state = await stand.state(agent.session)
        assert state["metadata"]["v"] == "3"
        assert state["extracted_context"] == {"journal": ["before", "by east", "by west"]}
        assert await conflicts(stand, agent.session) == []
    assert unharmed(claude)


async def test_both_regions_migrate_at_once_to_one_state(
    configure: Configure, start: Start, connect: Callable[..., Agent], ministack: Ministack, claude: StrictClaude
) -> None:
    east, west = await spread(configure, start, ministack, OLD)
    agent = connect(west)
    await step(agent, claude, call("note", text="before"))
    new_east = await newer(east, configure, start)
    new_west = await start(elsewhere(new_east.config))
    second = agent.fresh(url=new_east.url, messages=list(agent.messages))
    agent.url = new_west.url
    claude.script(Reply(blocks=[call("note", text="west")], first_byte_ms=200))
    claude.script(Reply(blocks=[call("note", text="east")], first_byte_ms=200))
    answers = await asyncio.gather(agent.good("I am here."), second.good("I am there."))
    assert [answer.commit for answer in answers] == ["committed", "committed"]
    here, there = [await stand.item(agent.session) for stand in (new_east, new_west)]
    assert here.state == there.state
    state = msgspec.json.decode(here.state)
    assert state["metadata"]["v"] == "3"
    kept = state["extracted_context"]["journal"] + [str(here.clashes)]
    assert all(any(word in each for each in kept) for word in ("before", "west", "east"))
