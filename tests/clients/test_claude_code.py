"""Claude Code in print mode works through the sidecar as without: its tools, ``--resume``, parallel subagents."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients.claude_code import ClaudeCode, Result
from tests.clients.comparing import Comparison, compare
from tests.clients.conftest import Twice, Way

pytestmark = [pytest.mark.client, pytest.mark.xdist_group("clients")]


def tool(name: str, **arguments: object) -> str:
    """The directive that makes the strict Claude use a tool."""
    return f"[[tool: {name} {json.dumps(arguments)}]]"


def steps(*parts: str) -> str:
    """A question whose turn has these steps."""
    return " [[then]] ".join(parts)


def on_plan(work: Path) -> str:
    """Writes a file, reads it, keeps a to-do list and runs a command."""
    todos = [
        {"content": "Book the night train", "status": "in_progress", "activeForm": "Booking the night train"},
        {"content": "Pack for Bergen", "status": "pending", "activeForm": "Packing for Bergen"},
    ]
    return "Write the plan, please. " + steps(
        tool("Write", file_path=str(work / "plan.md"), content="# Plan\n\nOslo, then Bergen.\n"),
        tool("Read", file_path=str(work / "plan.md")) + tool("TodoWrite", todos=todos),
        "[[think: Does it say so?]]" + tool("Bash", command="cat plan.md", description="Show the plan"),
        "[[say: The plan is written.]]",
    )


def compared(direct: Way, through: Way, session: str) -> Comparison:
    """Compares the session's requests and what each ``claude -p`` reported."""
    runs = [
        way.run(session, [[one.text, one.stop_reason, one.turns, one.error] for one in way.seen])
        for way in (direct, through)
    ]
    return compare(*runs)


def worked(results: Sequence[Result]) -> bool:
    return not any(result.error or result.denials for result in results)


def test_tools_and_resume(twice: Twice) -> None:
    session = str(uuid.uuid4())

    def held(base_url: str, home: Path) -> list[Result]:
        claude = ClaudeCode(base_url, home, home / "work")
        return [
            claude.ask(on_plan(claude.work), "--session-id", session),
            claude.ask(
                steps(
                    "What is left to do about the night train? " + tool("Read", file_path=str(claude.work / "plan.md")),
                    "[[say: All.]]",
                ),
                "--resume",
                session,
            ),
            claude.ask("Thank you. [[say: You are welcome.]]", "--resume", session),
        ]

    direct, through = twice(held)

    assert [result.text for result in direct.seen] == ["The plan is written.", "All.", "You are welcome."]
    assert worked(direct.seen)
    compared(direct, through, session).assert_same("Book the night train")


def test_parallel_subagents(twice: Twice) -> None:
    session = str(uuid.uuid4())

    def held(base_url: str, home: Path) -> list[Result]:
        claude = ClaudeCode(base_url, home, home / "work")
        agents = "".join(
            tool(
                "Agent",
                description=f"Ask about {city}",
                subagent_type="general-purpose",
                run_in_background=False,
                prompt=f"Find out about {city}. "
                + steps(tool("Bash", command=f"echo {city}", description="Say it"), f"[[say: {city} is fine.]]"),
            )
            for city in ("Oslo", "Bergen")
        )
        first = "Plan first. " + steps(
            tool("TodoWrite", todos=[{"content": "Ask two agents", "status": "pending", "activeForm": "Asking"}]),
            "[[say: Planned.]]",
        )
        return [
            claude.ask(first, "--session-id", session),
            claude.ask(steps("Ask both agents. " + agents, "[[say: Both are fine.]]"), "--resume", session),
            claude.ask("Thank you. [[say: You are welcome.]]", "--resume", session),
        ]

    direct, through = twice(held)

    assert [result.text for result in direct.seen] == ["Planned.", "Both are fine.", "You are welcome."]
    assert worked(direct.seen)
    assert len({row["agent"] for row in direct.run(session, None).turns}) == 3
    compared(direct, through, session).assert_same("Ask two agents")


def test_task_tools_are_remembered(twice: Twice) -> None:
    session = str(uuid.uuid4())
    tools = ("Read", "TaskCreate", "TaskUpdate")

    def held(base_url: str, home: Path) -> list[Result]:
        claude = ClaudeCode(base_url, home, home / "work")
        planning = "Plan it. " + steps(
            tool("TaskCreate", subject="Book the night train", description="From Oslo, both ways"),
            tool("TaskUpdate", taskId="1", status="in_progress"),
            "[[say: Planned.]]",
        )
        return [
            claude.ask(planning, "--session-id", session, tools=tools),
            claude.ask("And the night train? [[say: It is booked.]]", "--resume", session, tools=tools),
        ]

    direct, through = twice(held)

    assert [result.text for result in direct.seen] == ["Planned.", "It is booked."]
    assert worked(direct.seen)
    compared(direct, through, session).assert_same("Book the night train")
