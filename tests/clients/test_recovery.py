"""Real clients recover from Claude's failures through the sidecar as without: as many requests, no broken thinking."""

import uuid
from pathlib import Path

import pytest

from tests.clients.claude_code import ClaudeCode, Result
from tests.clients.comparing import compare
from tests.clients.conftest import Twice
from tests.clients.driving import Scenario, drive
from tests.clients.test_claude_code import compared, steps, tool

pytestmark = [pytest.mark.client, pytest.mark.xdist_group("clients")]

LOOK_UP = 'Where do we start? [[tool: lookup {"key": "Oslo"}]] [[then]] [[say: We start in Oslo.]]'
OVERLOADED = "[[fault: status status=529 times=1 retry_after=0.01]]"
BROKEN_OFF = "[[fault: error_event times=1 after=5]]"
"""Within or behind the thinking block."""

SDK_TURNS = {
    "json": (LOOK_UP, f"And then? {OVERLOADED} [[say: Bergen.]]", "Thank you. [[say: You are welcome.]]"),
    "stream": (
        LOOK_UP,
        f"And then? {OVERLOADED} [[say: Bergen.]]",
        f"And then? {BROKEN_OFF} [[say: Back home.]]",
        "Thank you. [[say: You are welcome.]]",
    ),
}


@pytest.mark.parametrize("client", ["anthropic-2", "typescript"])
def test_sdk_recovers(client: str, twice: Twice) -> None:
    scenarios = [Scenario(str(uuid.uuid4()), turns, way=way, attempts=2) for way, turns in SDK_TURNS.items()]

    direct, through = twice(lambda base_url, home: drive(client, base_url, home, *scenarios))

    for scenario, one, other in zip(scenarios, direct.seen, through.seen, strict=True):
        assert len(one.errors) == (scenario.way == "stream")
        assert one.text == "You are welcome."
        runs = [
            way.run(scenario.session, [summary.replies, summary.errors])
            for way, summary in ((direct, one), (through, other))
        ]
        assert [row["fault"] for row in runs[0].turns].count("status") == 1
        compare(*runs).assert_same()


PLAN = steps(
    "Plan first. "
    + tool(
        "TodoWrite",
        todos=[{"content": "Book the night train", "status": "pending", "activeForm": "Booking the night train"}],
    ),
    "[[say: Planned.]]",
)


def test_claude_code_recovers(twice: Twice) -> None:
    session = str(uuid.uuid4())
    turns = (
        PLAN,
        f"And after the night train? {BROKEN_OFF} [[say: Bergen.]]",
        steps(f"Show it. {OVERLOADED} " + tool("Bash", command="echo plan", description="Show"), "[[say: There.]]"),
        "Thank you. [[say: You are welcome.]]",
    )

    def held(base_url: str, home: Path) -> list[Result]:
        claude = ClaudeCode(base_url, home, home / "work")
        return [claude.ask(turn, "--resume" if index else "--session-id", session) for index, turn in enumerate(turns)]

    direct, through = twice(held)

    assert [result.text for result in direct.seen] == ["Planned.", "Bergen.", "There.", "You are welcome."]
    faults = [row["fault"] for row in direct.run(session, None).turns if row["fault"]]
    assert faults == ["error_event", "status"]
    compared(direct, through, session).assert_same("Book the night train")


def test_claude_code_goes_on_from_a_partial_answer(twice: Twice) -> None:
    """It keeps what came before the failure, thinking included, and asks for the rest in a changed question."""
    session = str(uuid.uuid4())
    broken = {
        "match": {"session": session, "text": "night train"},
        "blocks": [{"type": "thinking", "thinking": "North."}, " ".join(f"Stop {number}." for number in range(400))],
        "fault": "error_event after=30",
    }

    def held(base_url: str, home: Path) -> list[Result]:
        claude = ClaudeCode(base_url, home, home / "work")
        return [
            claude.ask(PLAN, "--session-id", session),
            claude.ask("And after the night train? [[say: The rest.]]", "--resume", session),
            claude.ask("Thank you. [[say: You are welcome.]]", "--resume", session),
        ]

    direct, through = twice(held, broken)

    assert [result.text for result in direct.seen] == ["Planned.", "The rest.", "You are welcome."]
    assert [row["fault"] for row in direct.run(session, None).turns if row["fault"]] == ["error_event"]
    compared(direct, through, session).assert_same("Book the night train")
