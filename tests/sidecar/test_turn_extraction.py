"""A small model reads finished turns: what it is told, what becomes of its answer, and that nobody waits for it."""

import json
from collections.abc import Callable

import pytest

from agentmemory_sidecar.stores.protocols import Conversation
from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, todos, tool_results, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.extraction import KEY, agents_turns, asked, change, extracted, learns, spec, told
from tests.sidecar.stand import Json, Stand

HOME = "/extracted_context/user/home_town"


async def seen(stand: Stand, session: str) -> Json:
    """What the admin API shows of a session."""
    status, _, body = await stand.admin("GET", f"/v1/sessions/{session}")
    assert status == 200, body
    shown: Json = json.loads(body)
    return shown


async def test_a_finished_turn_becomes_facts_that_later_turns_get(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(learns(change(HOME, "Porto")))
    await agent.good("I live in Porto.")
    await extracted(stand)

    assert (await stand.state(agent.session))["extracted_context"] == {"user": {"home_town": "Porto"}}
    (request,) = asked(claude)
    assert "I live in Porto." in told(request)
    assert "key-of-the-agent" not in str(request.headers)
    await agent.good("In which town is my home?")
    assert "home_town: Porto" in injections(agents_turns(claude)[-1].messages)[-1]
    assert stand.metric("extracted_turns") == 1
    assert stand.metric("extraction_changes", outcome="written") == 1
    assert stand.metric("extraction_model_tokens", kind="input") > 0
    assert unharmed(claude)


async def test_where_a_fact_came_from_is_shown_and_in_no_prompt(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(learns(change(HOME, "Porto", confidence="medium")))
    await agent.good("I live in Porto.")
    await extracted(stand)
    await agent.good("Where is my home town, turn, provenance, medium?")

    shown = await seen(stand, agent.session)
    (note,) = shown["learnt"]
    first, record, *_ = await stand.records(agent.session)  # the second turn may be read already
    assert (note["pointer"], note["confidence"], note["turn"]) == (HOME, "medium", first["payload"]["turn_id"])
    assert note["at"] == pytest.approx(first["at"])
    assert "provenance" not in shown["state"]["metadata"]
    assert record["kind"] == "patch"
    assert record["payload"]["extracted"]["turns"] == [note["turn"]]
    assert record["payload"]["extracted"]["from"] == [note]
    assert record["payload"]["usage"]["input_tokens"] > 0
    assert "medium" not in "".join(injections(agents_turns(claude)[-1].messages))


async def test_what_is_known_is_replaced_not_repeated(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(learns(change(HOME, "Porto"), change("/extracted_context/user/pets", ["a cat", "a cat", "a dog"])))
    await agent.good("I live in Porto, with a cat and a dog.")
    await extracted(stand)
    claude.script(learns(change("/extracted_context/user/homeTown", "Lisbon"), change(HOME, "Lisbon")))
    await agent.good("I have moved to Lisbon.")
    await extracted(stand)
    versions = (await stand.stored(agent.session)).versions
    claude.script(learns(change(HOME, "Lisbon")))
    await agent.good("Lisbon is where I live.")
    await extracted(stand)

    assert f'{HOME}\t"Porto"' in told(asked(claude)[1])
    state = await stand.state(agent.session)
    assert state["extracted_context"] == {"user": {"home_town": "Lisbon", "pets": ["a cat", "a dog"]}}
    (_, home) = (await seen(stand, agent.session))["learnt"]
    assert home["pointer"] == HOME
    records = await stand.records(agent.session)
    assert home["turn"] == records[2]["payload"]["turn_id"], "the turn that said so first"
    assert records[-1]["payload"].get("patch") is None
    assert (await stand.stored(agent.session)).versions.version == versions.version + 2


async def test_a_fact_that_somebody_else_wrote_over_is_not_said_to_be_learnt(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(learns(change(HOME, "Porto")))
    await agent.good("I live in Porto.")
    await extracted(stand)
    await stand.remember(agent.session, {"extracted_context": {"user": {"home_town": "Faro"}}})
    assert (await seen(stand, agent.session))["learnt"] == []


async def test_no_turn_waits_for_the_model(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    stand = await start(spec(deadline="5m"))
    agent = connect(stand)
    claude.script(learns(fault="hang"))
    await agent.good("One.")
    await claude.received(2)
    await agent.good("Two.")
    await agent.good("Three.")
    assert [one.turn for one in (await stand.item(agent.session)).unread] == [
        turn.id for turn in (await stand.item(agent.session)).window
    ]
    assert unharmed(claude)


async def test_turns_are_read_together_or_after_a_pause(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec(everyTurns=3, idle="1h"))
    agent, other = connect(stand), connect(stand)
    for question in ("One?", "Two?"):
        await agent.good(question)
    await other.good("Alone?")
    await extracted(stand)
    assert not asked(claude)
    claude.script(learns())
    await agent.good("Three?")
    await extracted(stand)
    (request,) = asked(claude)
    assert all(question in told(request) for question in ("One?", "Two?", "Three?"))

    assert stand.services.extractor is not None
    later = stand.services.now() + 3700
    stand.services.extractor.now = lambda: later
    claude.script(learns())
    await extracted(stand)
    assert "Alone?" in told(asked(claude)[-1])
    assert not (await stand.item(other.session)).unread


async def test_a_turn_with_tools_is_read_once_at_its_end_without_what_tools_said(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(Reply(blocks=[{"type": "tool_use", "name": "look", "input": {"for": "a hall"}}]), learns())
    first = await agent.good("Find a hall.")
    assert not (await stand.item(agent.session)).unread
    await agent.good(tool_results(first, "The hall of mirrors."))
    await extracted(stand)
    (request,) = asked(claude)
    assert "Find a hall." in told(request)
    assert "look" in told(request)
    assert "mirrors" not in told(request).replace("The tool gave: The hall of mirrors.", "")


async def test_what_tools_said_is_read_where_the_resource_wants_it(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec(toolResults=True))
    agent = connect(stand)
    claude.script(Reply(blocks=[{"type": "tool_use", "name": "look", "input": {}}]), Reply(blocks="Good."), learns())
    await agent.results(await agent.good("Find a hall."), "The hall of mirrors.")
    await extracted(stand)
    assert "mirrors" in told(asked(claude)[0])


async def test_what_the_sidecar_put_in_is_not_read_again(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec(more={"filter": {"pinned": ["/active_mission/goal"]}}))
    agent = connect(stand)
    await stand.remember(agent.session, {"active_mission": {"goal": "Cross the Gobi desert"}})
    claude.script(learns(), Reply(blocks="Hm."), learns())
    await agent.good("What next?")
    await extracted(stand)
    fresh = agent.fresh()
    await fresh.good("And then?")
    await extracted(stand)
    assert "Gobi" in json.dumps(claude.turns[0].messages)
    assert "What next?" in json.dumps(claude.turns[2].messages), "a fresh client gets the last turns"
    assert not any("Gobi" in told(request) for request in asked(claude))
    assert "What next?" not in told(asked(claude)[1])

    quoted = injections(claude.turns[0].messages)[0]
    claude.script(Reply(blocks="Hm."), learns())
    await fresh.good([{"type": "text", "text": f"You said: {quoted}"}, {"type": "text", "text": "Why?"}])
    await extracted(stand)
    assert "Why?" in told(asked(claude)[2])
    assert "Gobi" not in told(asked(claude)[2])


async def test_a_turn_that_was_cut_or_refused_is_not_read(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(Reply(blocks="I", stop_reason="max_tokens"), Reply(blocks="No", stop_reason="refusal"))
    await agent.say("Write a book.")
    await agent.say("Write another.")
    await extracted(stand)
    assert not asked(claude)


async def test_rules_and_extraction_write_side_by_side(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(Reply(blocks=[todos("book the hall")]), Reply(blocks="Done."), learns(change(HOME, "Porto")))
    await agent.results(await agent.good("Plan. I live in Porto."))
    await extracted(stand)
    state = await stand.state(agent.session)
    assert state["active_mission"]["sub_tasks"] == ["book the hall"]
    assert state["extracted_context"]["user"]["home_town"] == "Porto"


@pytest.mark.parametrize(("scope", "kind"), [("User", "users"), ("Project", "projects")])
async def test_a_wider_scope_learns_from_each_session_once(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude, scope: str, kind: str
) -> None:
    more = {"state": {"scope": scope}, "session": {"identity": {"projectHeaders": ["X-Project"]}}}
    stand = await start(spec(more=more))
    laptop, phone = (connect(stand, headers={"X-User": "anna", "X-Project": "anna"}) for _ in range(2))
    claude.script(learns(change(HOME, "Porto")))
    await laptop.good("I live in Porto.")
    await extracted(stand)
    claude.script(learns(change("/extracted_context/user/dog", "Bo")))
    await phone.good("In which town is my home? My dog is Bo.")
    await extracted(stand)

    assert "home_town: Porto" in injections(agents_turns(claude)[-1].messages)[-1]
    assert f'{HOME}\t"Porto"' in told(asked(claude)[1])
    status, _, body = await stand.admin("GET", f"/v1/{kind}/anna/state")
    assert status == 200
    state = json.loads(body)
    assert state["extracted_context"]["user"] == {"home_town": "Porto", "dog": "Bo"}
    assert state["metadata"]["provenance"].keys() == {HOME, "/extracted_context/user/dog"}
    for agent in (laptop, phone):
        item = await stand.item(agent.session)
        assert (item.unread, item.patches, item.state) == ([], [], b"")
        await stand.services.patches.apply(Conversation(stand.config.tenant, agent.session))
    assert json.loads((await stand.admin("GET", f"/v1/{kind}/anna/state"))[2]) == state


async def test_a_subagents_turns_teach_its_session(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec())
    sub = connect(stand, headers={"X-Claude-Code-Agent-Id": "explorer"})
    claude.script(learns(change("/extracted_context/repository/language", "Rust")))
    await sub.good("Which language is it? I found Cargo.toml.")
    await extracted(stand)
    assert (await stand.state(sub.session))["extracted_context"] == {"repository": {"language": "Rust"}}


async def test_a_key_that_the_log_and_the_state_never_show(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude, caplog: pytest.LogCaptureFixture
) -> None:
    stand = await start(spec())
    agent = connect(stand)
    claude.script(learns(fault="401"))
    await agent.good("My secret plan.")
    await extracted(stand)
    assert stand.metric("extractions", outcome="refused") == 1
    assert "extraction: refused" in caplog.text
    assert KEY not in caplog.text
    assert "secret plan" not in caplog.text
    assert len((await stand.item(agent.session)).unread) == 1
