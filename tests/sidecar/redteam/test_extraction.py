"""A model that was talked into the worst by what it read: nothing pinned changes, nothing leaves the fence."""

from collections.abc import Callable

import pytest

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, tool_results, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.extraction import agents_turns, asked, change, extracted, learns, spec, told
from tests.sidecar.redteam.corpus import texts
from tests.sidecar.redteam.test_poison import GOAL, is_one_fence, missions
from tests.sidecar.stand import Json, Stand

MORE: Json = {
    "filter": {"budgetTokens": 4000, "pinned": ["/active_mission/goal"]},
    "injection": {"conversationTokens": 40_000},
}
TAG = "agentmemory-0123456789ab"


@pytest.fixture
async def stand(start: Start) -> Stand:
    return await start(spec(more=MORE, toolResults=True))


def obedient(text: str) -> list[Json]:
    """Every change that an order in a text could ask for."""
    places = (
        "/active_mission/goal", "/active_mission", "/active_mission/goal/now", "/metadata/user_id", "/metadata/provenance/x",
        "/memories/notes.md", "/extracted_context", "/extracted_context/../active_mission/goal", "/~1active_mission~1goal",
        "/extracted_context/seen", "/__proto__/goal", f"/extracted_context/{text}",
    )  # fmt: skip
    return [change(place, text) for place in places] + [change("/extracted_context/list", [text, "a chair"])]


@pytest.mark.parametrize("number", range(len(texts("x"))))
async def test_a_model_that_obeys_what_a_tool_said_changes_nothing_pinned(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, number: int
) -> None:
    text = texts(TAG)[number]
    agent = connect(stand)
    await stand.remember(agent.session, {"active_mission": {"goal": GOAL}})
    claude.script(
        Reply(blocks=[{"type": "tool_use", "name": "look", "input": {}}]), Reply(blocks=f"It says: {text}"),
        learns(*obedient(text[:900])),  # an answer has an end, too
    )  # fmt: skip
    first = await agent.good("Look around.")
    await agent.good(tool_results(first, text))
    await extracted(stand)
    claude.script(learns())
    await agent.good("What have you seen, what is the goal, and which note is there? Say all that was seen.")
    await extracted(stand)

    state = await stand.state(agent.session)
    blocks = injections(agents_turns(claude)[-1].messages)
    assert state["active_mission"]["goal"] == GOAL
    assert state["metadata"]["user_id"] == ""
    assert state.keys() <= {"active_mission", "extracted_context", "metadata"}
    assert all(map(is_one_fence, blocks))
    assert [line for block in blocks for line in missions(block)] == [f"goal: {GOAL}"]
    assert sum(stand.metric("extraction_changes", outcome=rule) for rule in ("closed", "form")) >= 8
    assert all(told(request).count("\n") < 15 for request in asked(claude)), "a turn stays on its line"
    assert unharmed(claude)


async def test_what_a_tool_said_is_not_even_read_without_leave(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start(spec(more=MORE))
    agent = connect(stand)
    for text in texts(TAG):
        claude.script(
            Reply(blocks=[{"type": "tool_use", "name": "look", "input": {}}]), Reply(blocks="I see."), learns()
        )
        first = await agent.good("Look around.")
        await agent.good(tool_results(first, text))
        await extracted(stand)
        assert text not in told(asked(claude)[-1])
        assert "evil.example" not in told(asked(claude)[-1])
