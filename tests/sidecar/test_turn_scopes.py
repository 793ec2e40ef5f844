"""Several scopes at once: one state to the agent, each part in its owner's item, and grants between owners."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from agentmemory_sidecar.stores.protocols import Conversation
from tests.claude import Match, Reply, StrictClaude
from tests.sidecar import extraction
from tests.sidecar.agents import TOOLS, Agent, injections, todos, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.memory_tool import MEMORY, create, hidden
from tests.sidecar.stand import SESSION_HEADER, Json, Stand


def rule(name: str, to: str, op: str = "Replace") -> Json:
    return {"tools": ["look"], "from": f"/{name}", "to": to, "op": op}


IDENTITY = {
    "headers": [SESSION_HEADER], "userHeaders": ["X-User"], "projectHeaders": ["X-Project"], "groupHeaders": ["X-Groups"]
}  # fmt: skip
SCOPES: list[Json] = [
    {"scope": "Session"},
    {"scope": "User", "pointers": ["/preferences"]},
    {"scope": "Project", "pointers": ["/decisions"]},
]
RULES = [
    rule("note", "/extracted_context/note"),
    rule("prefer", "/preferences/team/editor"),
    rule("decide", "/decisions", "Append"),
    rule("for_anna", "/shared/user/anna/preferences/team/editor"),
]
SPEC: Json = {
    "state": {"scopes": SCOPES},
    "session": {"identity": IDENTITY},
    "extraction": {"rules": RULES},
    "filter": {"pinned": ["/extracted_context", "/preferences", "/decisions", "/shared"]},
}
SHARED = {"scope": "User", "of": ["anna"], "pointers": ["/preferences/team"]}


def spec(scopes: list[Json] | None = None, **state: Any) -> Json:
    return SPEC | {"state": {"scopes": scopes or SCOPES, **state}}


def said(user: str = "anna", project: str = "apollo", **more: str) -> dict[str, str]:
    return {"X-User": user, "X-Project": project} | {name.replace("_", "-"): value for name, value in more.items()}


def look(**given: Any) -> Json:
    return {"type": "tool_use", "name": "look", "input": given}


async def does(agent: Agent, claude: StrictClaude, *blocks: Json) -> None:
    """A turn in which the agent calls these tools."""
    claude.script(Reply(blocks=list(blocks), match=Match(session=agent.session)))
    await agent.results(await agent.good("Do it."))


async def of(stand: Stand, kind: Any, name: str) -> Json:
    """What a user's or project's own item holds."""
    await stand.settled()
    state = await stand.state(Conversation.shared("", kind, name).session)
    state.pop("metadata", None)
    return {member: value for member, value in state.items() if member not in ("active_mission", "extracted_context")}


async def told(agent: Agent, claude: StrictClaude) -> str:
    """What the agent's next prompt says."""
    answer = await agent.good("What do you know?")
    assert answer.status == 200
    return "\n".join(injections(claude.requests[-1].messages))


async def test_each_part_of_a_patch_reaches_its_owner_once_and_all_are_read_as_one(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    anna = connect(stand, headers=said())
    await does(anna, claude, look(note="the valve leaks", prefer="vi", decide=["use Go"]))

    assert await of(stand, "user", "anna") == {"preferences": {"team": {"editor": "vi"}}}
    assert await of(stand, "project", "apollo") == {"decisions": ["use Go"]}
    own = await stand.state(anna.session)
    assert own["extracted_context"] == {"note": "the valve leaks"}
    assert "preferences" not in own
    assert "decisions" not in own
    assert not (await stand.item(anna.session)).patches

    laptop = connect(stand, headers=said(project="gemini"))
    text = await told(laptop, claude)
    assert "vi" in text
    assert "use Go" not in text
    ben = connect(stand, headers=said("ben"))
    text = await told(ben, claude)
    assert "use Go" in text
    assert "editor" not in text
    assert "leaks" not in text
    assert unharmed(claude)


async def test_parts_meet_those_of_others_at_each_owner(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    one = await start(SPEC)
    two = await start(one.config)
    agents = [connect(stand, headers=said(user)) for stand in (one, two) for user in ("anna", "anna", "ben")]
    async with asyncio.TaskGroup() as group:
        for number, agent in enumerate(agents):
            group.create_task(does(agent, claude, look(note=f"n{number}", decide=[f"d{number}"])))
    for stand in (one, two):
        await stand.settled()
        await stand.services.archiver.sweep()
    assert sorted((await of(one, "project", "apollo"))["decisions"]) == [f"d{number}" for number in range(6)]
    for number, agent in enumerate(agents):
        assert (await one.state(agent.session))["extracted_context"] == {"note": f"n{number}"}
        assert not (await one.item(agent.session)).conflicts


async def test_the_next_step_reads_what_the_last_one_wrote_before_it_is_carried(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    anna = connect(stand, headers=said())

    async def nobody_carries(source: Conversation) -> None: ...

    stand.services.patches.apply = nobody_carries  # type: ignore[method-assign]
    claude.script(Reply(blocks=[look(prefer="vi", decide=["use Go"])], match=Match(session=anna.session)))
    await anna.results(await anna.good("Do it."))
    assert len((await stand.item(anna.session)).patches) == 2
    text = await told(anna, claude)
    assert "vi" in text
    assert "use Go" in text


async def test_without_a_user_or_project_the_rest_is_used_and_it_says_so(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    alone = connect(stand, stream=False)
    await does(alone, claude, look(prefer="vi", decide=["use Go"]))
    answer = await alone.good("What do you know?")
    assert (answer.receipt["scopes"], answer.receipt["scopes-missing"]) == ("session", "user,project")
    assert (await stand.state(alone.session))["decisions"] == ["use Go"]
    assert stand.metric("requests_without_owner", scope="project") == 3

    alone.headers = said()
    answer = await alone.good("And now?")
    assert answer.receipt["scopes"] == "session,user,project"
    assert "scopes-missing" not in answer.receipt
    await does(alone, claude, look(decide=["use C"]))
    # It moves to its home with the next change.
    assert await of(stand, "project", "apollo") == {"decisions": ["use Go", "use C"]}
    assert "decisions" not in await stand.state(alone.session)


async def test_a_subagent_writes_to_all_homes(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    root = connect(stand, headers=said())
    await root.good("Begin.")
    sub = connect(stand, session=root.session, headers=said() | {"X-Claude-Code-Agent-Id": "a1"})
    await does(sub, claude, look(note="seen", prefer="vi", decide=["use Go"]))
    assert await of(stand, "project", "apollo") == {"decisions": ["use Go"]}
    assert await of(stand, "user", "anna") == {"preferences": {"team": {"editor": "vi"}}}
    assert (await stand.state(root.session))["extracted_context"] == {"note": "seen"}


async def test_what_a_session_is_shown_as_says_whose_what_is_and_a_change_by_hand_goes_there(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    anna = connect(stand, headers=said())
    await does(anna, claude, look(note="leaks", prefer="vi", decide=["use Go"]))
    await stand.settled()
    await told(anna, claude)

    shown = msgspec.json.decode((await stand.admin("GET", f"/v1/sessions/{anna.session}"))[2])
    assert shown["state"]["preferences"] == {"team": {"editor": "vi"}}
    assert shown["whose"] == {
        "/extracted_context": f"session:{anna.session}", "/preferences": "user:anna", "/decisions": "project:apollo"
    }  # fmt: skip
    explained = await stand.explain(anna.session, "last")
    assert {fact["pointer"].split("/")[1]: fact["of"] for fact in explained["in"]} == {
        "extracted_context": f"session:{anna.session}", "preferences": "user:anna", "decisions": "project:apollo"
    }  # fmt: skip

    await stand.remember(anna.session, {"preferences": {"team": None}, "decisions": ["use C"], "note": 1})
    assert await of(stand, "user", "anna") == {"preferences": {}}
    assert await of(stand, "project", "apollo") == {"decisions": ["use C"]}
    assert (await stand.state(anna.session))["note"] == 1
    status, _, body = await stand.admin("GET", f"/v1/sessions/{anna.session}/state")
    assert (status, msgspec.json.decode(body)["decisions"]) == (200, ["use C"])


async def test_files_lie_at_their_home_and_who_may_only_read_them_is_told(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    scopes = [SCOPES[0], {"scope": "Project", "pointers": ["/memories"], "access": "Granted"}]
    grants = [
        {"scope": "Project", "access": "Write", "to": {"agents": ["root"]}},
        {"scope": "Project", "access": "Read", "to": {"agents": ["reviewer"]}},
    ]
    stand = await start(spec(scopes, grants=grants))
    root = connect(stand, headers=said(), extra={"tools": [*TOOLS, MEMORY]})
    claude.script(Reply(blocks=[create()]), "Noted.")
    await root.good("I like coffee.")
    assert await of(stand, "project", "apollo") == {"memories": {"notes.md": "likes coffee"}}

    subagent = {"X-Claude-Code-Agent-Id": "a1", "X-Claude-Code-Agent-Type": "reviewer"}
    reviewer = connect(stand, headers=said("ben") | subagent, extra={"tools": [*TOOLS, MEMORY]})
    view = {"type": "tool_use", "name": "memory", "input": {"command": "view", "path": "/memories/notes.md"}}
    claude.script(Reply(blocks=[view, create(path="/memories/mine.md")]), "So it is.")
    await reviewer.good("What do I like?")
    (_, seen), (_, refused) = hidden(claude.requests[-1].messages)
    assert "likes coffee" in str(seen)
    assert "not change it" in str(refused)
    assert await of(stand, "project", "apollo") == {"memories": {"notes.md": "likes coffee"}}


# --------------------------------------------------------------------------------------------------------------- grants


async def test_a_reviewer_reads_decisions_and_what_it_decides_is_kept_and_shown_not_done(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    scopes = [*SCOPES[:2], {**SCOPES[2], "access": "Granted"}]
    grants = [
        {"scope": "Project", "access": "Write", "to": {"agents": ["root"]}},
        {"scope": "Project", "access": "Read", "to": {"agents": ["reviewer"]}},
    ]
    stand = await start(spec(scopes, grants=grants))
    root = connect(stand, headers=said())
    await does(root, claude, look(decide=["use Go"]))
    await stand.settled()

    subagent = {"X-Claude-Code-Agent-Id": "a1", "X-Claude-Code-Agent-Type": "reviewer"}
    reviewer = connect(stand, session=root.session, headers=said() | subagent)
    assert "use Go" in await told(reviewer, claude)
    await does(reviewer, claude, look(prefer="vi", decide=["use C"]))
    assert await of(stand, "project", "apollo") == {"decisions": ["use Go"]}
    assert await of(stand, "user", "anna") == {}  # not half of it
    (conflict,) = (await stand.item(root.session, "a1")).conflicts
    assert b"no grant" in conflict.operations
    assert b"use C" in conflict.operations

    nobody = connect(stand, session=root.session, headers=said() | {"X-Claude-Code-Agent-Id": "a2"})
    assert "use Go" not in await told(nobody, claude)


async def test_what_a_user_shares_reaches_whom_the_grant_names_below_shared(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    grants = [
        {**SHARED, "access": "Read", "to": {"users": ["ben"]}},
        {**SHARED, "access": "Write", "to": {"groups": ["red"]}},
    ]
    stand = await start(spec(grants=grants))
    anna, ben, carol, dora = (connect(stand, headers=said(name, "")) for name in ("anna", "ben", "carol", "dora"))
    dora.headers = said("dora", "", X_Groups="blue, red")
    await does(anna, claude, look(prefer="vi"))
    await stand.remember(anna.session, {"preferences": {"diet": "secret"}})
    await stand.settled()
    for agent in (ben, dora):
        text = await told(agent, claude)
        assert "vi" in text
        assert "secret" not in text
    assert "vi" not in await told(carol, claude)

    await does(ben, claude, look(for_anna="emacs", note="mine"))
    await does(carol, claude, look(for_anna="nano"))
    assert (await of(stand, "user", "anna"))["preferences"]["team"] == {"editor": "vi"}
    for agent in (ben, carol):
        assert b"grant" in (await stand.item(agent.session)).conflicts[0].operations
    assert "note" not in (await stand.state(ben.session)).get("extracted_context", {})
    await does(dora, claude, look(for_anna="ed"))
    assert (await of(stand, "user", "anna"))["preferences"]["team"] == {"editor": "ed"}
    assert "ed" in await told(ben, claude)
    assert unharmed(claude)


async def test_what_a_model_learns_goes_home_with_where_it_came_from_and_no_further_than_its_agent_may(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    scopes = [*SCOPES[:2], {**SCOPES[2], "access": "Granted"}]
    grants = [{"scope": "Project", "access": "Read", "to": {"agents": ["root"]}}]
    writes = ["/extracted_context", "/preferences", "/decisions"]
    stand = await start(extraction.spec(more=spec(scopes, grants=grants), writes=writes))
    anna = connect(stand, headers=said())
    town, editor, used = "/extracted_context/town", "/preferences/editor", "/decisions/used"
    claude.script(extraction.learns(*(extraction.change(place, "vi") for place in (town, editor, used))))
    await anna.good("I live in vi, use vi, and we take vi.")
    await extraction.extracted(stand)

    assert await of(stand, "user", "anna") == {"preferences": {"editor": "vi"}}
    assert (await stand.state(anna.session))["extracted_context"] == {"town": "vi"}
    assert not (await stand.stored(Conversation.shared("", "project", "apollo").session)).body
    shown = msgspec.json.decode((await stand.admin("GET", f"/v1/sessions/{anna.session}"))[2])
    assert {note["pointer"] for note in shown["learnt"]} == {town, editor}
    assert stand.metric("extraction_changes", outcome="grant") == 1


async def test_scopes_that_are_read_together_are_read_at_once(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(SPEC)
    agent = connect(stand, headers=said())
    await does(agent, claude, todos("begin"))
    await stand.settled()
    reading, both = 0, asyncio.Event()
    real = stand.services.state.read

    async def read(conversation: Conversation) -> Any:
        nonlocal reading
        if not conversation.is_session:
            reading += 1
            if reading == 2:
                both.set()
            await both.wait()  # for ever, if one were read after the other
        return await real(conversation)

    stand.services.state.read = read  # type: ignore[method-assign]
    await agent.good("Go on.")
    assert reading == 2
