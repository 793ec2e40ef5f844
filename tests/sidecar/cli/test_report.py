"""``agentmemory report`` over a running sidecar."""

import json
from pathlib import Path

import pytest

from tests.claude.fixtures import ClaudeProcess
from tests.sidecar.agents import Agent, todos
from tests.sidecar.cli.conftest import Laptop, Run


@pytest.fixture
async def sessions(laptop: Laptop, claude_process: ClaudeProcess) -> list[str]:
    """Two sessions of three steps each, whose last one is given the state."""
    made = []
    for _ in range(2):
        agent = Agent(laptop.url)
        async with agent.http:
            await claude_process.script({"blocks": [todos("book the hall", "order the cake")]}, "I see.", "The cake.")
            await agent.results(await agent.good("Plan the party."))
            await agent.good("Which sub tasks are left? The cake?")
        made.append(agent.session)
    return made


def test_sums_are_those_of_the_sessions(laptop: Laptop, run: Run, sessions: list[str]) -> None:
    data = ("--data", laptop.data)

    def asked(*arguments: str) -> dict[str, float]:
        found: dict[str, float] = json.loads(run("report", *data, "-o", "json", *arguments).out)
        return found

    one, other = (asked("--session", session) for session in sessions)
    both = asked("--session", sessions[0], "--session", sessions[1])
    assert (one["sessions"], one["steps"]) == (1, 3)
    assert one["whole_tokens"] > 0
    assert one["saved_tokens"] == one["whole_tokens"] - one["injected_tokens"] - one["replayed_tokens"]
    assert both["sessions"] == 2
    assert all(both[name] == pytest.approx(one[name] + other[name]) for name in one)
    assert asked()["sessions"] >= 2
    assert asked("--session", sessions[0], "--since", "1ms")["steps"] == 0
    table = run("report", *data, "--session", sessions[0]).out
    assert "tokens: saved" in table


@pytest.mark.parametrize(("arguments", "said"), [
    (["--since", "yesterday"], "write 90m, 24h or 7d"),
    (["--session", "nobody"], "There is no such session"),
])  # fmt: skip
def test_bad_input(laptop: Laptop, run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    refused = run("report", "--data", laptop.data, *arguments)
    assert refused.code == 2
    assert said in refused.err
