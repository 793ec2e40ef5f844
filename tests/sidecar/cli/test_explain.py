"""``agentmemory explain`` about turns of a running sidecar."""

import json

import pytest

from tests.claude.fixtures import ClaudeProcess
from tests.sidecar.agents import Agent, todos
from tests.sidecar.cli.conftest import Laptop, Run


@pytest.fixture
async def session(laptop: Laptop, claude_process: ClaudeProcess) -> str:
    """Three steps; the last is a turn of its own that is given the state."""
    agent = Agent(laptop.url)
    async with agent.http:
        await claude_process.script({"blocks": [todos("book the hall", "order the cake")]}, "I see.", "The cake.")
        await agent.results(await agent.good("Plan the party."))
        await agent.good("Who does order the cake?")
    return agent.session


def test_a_turn_by_its_number_and_the_last(
    laptop: Laptop, run: Run, session: str, claude_process: ClaudeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--data", laptop.data)
    last = json.loads(run("explain", session, "last", *data, "-o", "json").out)
    assert (last["turn"], last["question"], last["filter"]) == (3, "Who does order the cake?", "Lexical")
    assert {one["pointer"]: one["reason"] for one in last["in"]}["/active_mission/sub_tasks/1"] == "cake, order"
    assert last == json.loads(run("explain", session, "3", *data, "-o", "json").out)
    assert json.loads(run("explain", session, "1", *data, "-o", "json").out)["in"] == []
    table = run("explain", session, "last", *data).out
    assert "/active_mission/sub_tasks/1" in table
    assert "cake, order" in table

    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-mine")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", claude_process.url)
    exact = json.loads(run("explain", session, "last", *data, "-o", "json", "--exact", "claude-haiku-5-5").out)
    assert exact["tokens"]["exact"] == pytest.approx(last["tokens"]["injected"], abs=10)


@pytest.mark.parametrize(
    ("turn", "said"), [("99", "no step 99 is on record: see agentmemory session history"), ("x/y", "no step x/y")]
)
def test_a_turn_that_is_not_on_record(laptop: Laptop, run: Run, session: str, turn: str, said: str) -> None:
    assert said in run("explain", session, turn, "--data", laptop.data).complaint


def test_a_session_that_is_none(laptop: Laptop, run: Run) -> None:
    assert "There is no such session" in run("explain", "nobody", "last", "--data", laptop.data).complaint
