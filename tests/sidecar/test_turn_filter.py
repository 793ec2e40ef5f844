"""The resource's filter in a whole step: who chose, what it cost, and how a turn is explained."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, unharmed
from tests.sidecar.conftest import Start

TINY = Path(__file__).parent / "models" / "tiny"
KEY = "sk-ant-the-filters"
SUB_AGENT = {"strategy": "SubAgent", "budgetTokens": 300, "subAgent": {"apiKey": KEY, "deadline": "60s"}}
NOTES = [
    "The hound sleeps on the sofa",
    "Her salary comes on the first",
    "The physician opens at nine",
    "Rain is likely",
]


async def seeded(start: Start, connect: Callable[..., Agent], filter_: dict[str, object]) -> Agent:
    stand = await start({"filter": filter_})
    agent = connect(stand)
    await stand.remember(agent.session, {"extracted_context": {"notes": NOTES}})
    return agent


def asked_for_a_pick(claude: StrictClaude) -> list[object]:
    return [request for request in claude.requests if "output_config" in request.parsed]


async def test_a_subagent_picks_with_its_own_key(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = await seeded(start, connect, SUB_AGENT)
    claude.script(Reply(blocks=json.dumps({"pointers": ["/extracted_context/notes/1"]}), think=False))

    answer = await agent.good("When is there money again?")

    pick, turn = claude.requests
    assert KEY in str(pick.headers)
    assert KEY not in str(turn.headers)
    assert "Her salary comes" in str(injections(turn.messages))
    assert "hound" not in str(turn.messages)
    assert (answer.receipt["filter"], "filter-fallback" in answer.receipt) == ("SubAgent", False)
    assert unharmed(claude)


async def test_a_subagent_that_is_overloaded_leaves_words(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = await seeded(start, connect, SUB_AGENT)
    claude.script(Reply(fault="529"))

    answer = await agent.good("When does the physician open?")

    assert "opens at nine" in str(injections(claude.requests[-1].messages))
    assert (answer.receipt["filter"], answer.receipt["filter-fallback"]) == ("Lexical", "refused")


async def test_later_steps_of_a_turn_ask_nobody(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = await seeded(start, connect, SUB_AGENT)
    claude.script(
        Reply(blocks=json.dumps({"pointers": []}), think=False),
        Reply(blocks=[{"type": "tool_use", "name": "look", "input": {}}]),
    )
    await agent.results(await agent.good("When is there money again?"))
    assert len(asked_for_a_pick(claude)) == 1
    assert unharmed(claude)


async def test_by_meaning(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    agent = await seeded(start, connect, {"strategy": "Hybrid", "embeddings": {"model": str(TINY), "deadline": "5s"}})
    answer = await agent.good("Does she have a dog?")
    assert "hound" in str(injections(claude.requests[-1].messages))
    assert answer.receipt["filter"] == "Hybrid"


async def test_without_its_model_a_sidecar_starts_and_says_what_it_lacks(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = await seeded(start, connect, {"strategy": "Hybrid", "embeddings": {"model": "/nowhere"}})
    answer = await agent.good("When does the physician open?")
    assert "opens at nine" in str(injections(claude.requests[-1].messages))
    assert (answer.receipt["filter"], answer.receipt["filter-fallback"]) == ("Lexical", "no_model")


async def test_a_turn_is_explained(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    stand = await start({"filter": {"budgetTokens": 60, "pinned": ["/active_mission/goal"]}})
    agent = connect(stand)
    long = "The physician has much to say about opening, " * 8
    state = {"active_mission": {"goal": "Get well"}, "extracted_context": {"notes": [*NOTES, long]}}
    await stand.remember(agent.session, state)
    claude.script(Reply(blocks=[{"type": "tool_use", "name": "look", "input": {}}]))
    await agent.results(await agent.good("When does the physician open?"))
    await agent.good("And when does the physician open tomorrow?")

    first, second = await stand.explain(agent.session, "1"), await stand.explain(agent.session, "2")
    last = await stand.explain(agent.session, "last")

    why = {one["pointer"]: one["reason"] for one in first["in"]}
    assert (why["/active_mission/goal"], why["/extracted_context/notes/2"]) == ("pinned", "open, physician")
    assert {one["pointer"]: one["reason"] for one in first["out"]}["/extracted_context/notes/4"] == "budget"
    assert first["question"] == "When does the physician open?"
    assert "opens at nine" in first["text"]
    assert first["tokens"]["injected"] > 0
    assert second["in"] == first["in"], "the second step of the turn: what was put in with its first"
    assert second["put_in_with_step"] == first["step"] != second["step"]
    assert {one["pointer"]: one["reason"] for one in last["out"]}["/extracted_context/notes/2"] == "said"
    assert last["tokens"]["replayed"] >= first["tokens"]["injected"]
    assert (await stand.explain(agent.session, first["turn_id"]))["turn"] == 2
