"""Poisoned tool results stay data: in the state where the rule puts them, in the prompt within their fence."""

import json
import re
from collections.abc import Callable

import pytest

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, tool_results, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.redteam.corpus import shapes, texts
from tests.sidecar.stand import Json, Stand

GOAL = "Find a hall for two hundred people."
SPEC: Json = {
    "filter": {"budgetTokens": 4000, "pinned": ["/active_mission/goal"]},
    "injection": {"conversationTokens": 40_000},
    "extraction": {
        "rules": [{"tools": ["look"], "when": "Result", "from": "", "to": "/extracted_context/seen", "op": "Replace"}]
    },
}
_TAG = re.compile(r"<[\s/\\\u200b-\u200d\u00ad\ufeff]*agentmemory", re.IGNORECASE)


@pytest.fixture
async def stand(start: Start) -> Stand:
    return await start(SPEC)


async def poisoned(agent: Agent, claude: StrictClaude, result: object) -> list[str]:
    """The blocks in the prompt of a turn after a tool gave this result."""
    claude.script(Reply(blocks=[{"type": "tool_use", "name": "look", "input": {}}]))
    first = await agent.good("Look around.")
    written = result if isinstance(result, str) else json.dumps(result)
    await agent.good(tool_results(first, written or "nothing"))
    await agent.good("What have you seen, what is the goal, and which note is there? Say all that was seen.")
    return injections(claude.requests[-1].messages)


def missions(block: str) -> list[str]:
    """The lines of a block that stand under the heading of the mission, which is pinned."""
    found, heading = [], ""
    for line in block.split("\n"):
        heading = line if line.startswith("/") else heading
        if heading == "/active_mission:" and line != heading and not line.startswith("<"):
            found.append(line)
    return found


def is_one_fence(block: str) -> bool:
    """Whether the block is one fence from its first to its last line, and holds no other."""
    lines = block.split("\n")
    (opening,) = re.findall(r"^<(agentmemory-[0-9a-f]{12})", lines[0])
    return len(_TAG.findall(block)) == 2 and lines[-1] == f"</{opening}>" and block.splitlines() == lines


@pytest.mark.parametrize("number", range(len(texts("x"))))
async def test_text_stays_in_its_fence_and_changes_nothing_pinned(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, number: int
) -> None:
    seen = connect(stand)
    await stand.remember(seen.session, {"active_mission": {"goal": GOAL}})
    tag = re.findall(r"<(agentmemory-[0-9a-f]{12})", (await poisoned(seen, claude, "a chair"))[-1])[0]
    text = texts(tag)[number]
    for shape in shapes(text):
        agent = connect(stand)
        await stand.remember(agent.session, {"active_mission": {"goal": GOAL}})
        before = await stand.state(agent.session)
        blocks = await poisoned(agent, claude, shape)
        after = await stand.state(agent.session)
        assert all(map(is_one_fence, blocks))
        assert after["active_mission"] == before["active_mission"]
        assert {**after["metadata"], "region": ""} == {**before["metadata"], "region": ""}
        assert after.keys() <= {"active_mission", "extracted_context", "metadata"}
        assert after["extracted_context"].keys() <= {"seen"}
        assert [line for block in blocks for line in missions(block)] == [f"goal: {GOAL}"]
    assert unharmed(claude)
