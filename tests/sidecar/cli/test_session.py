"""``agentmemory session``: tables for people, JSON for programs."""

import json
from pathlib import Path

import pytest

from tests.claude.fixtures import ClaudeProcess
from tests.sidecar.agents import Agent, todos
from tests.sidecar.cli.conftest import QUICKSTART, Laptop, Run

BIG = "A long story. " * 20_000


@pytest.fixture
async def session(laptop: Laptop, claude_process: ClaudeProcess) -> str:
    """A session of two steps, with a to-do list and a big tool result."""
    agent = Agent(laptop.url, session="party/1 ü", headers={"X-Agent-Session": "party/1 ü"})
    await claude_process.script({"blocks": [todos("book the hall")]}, "I see.")
    agent.path = "/s/party%2F1%20%C3%BC/v1/messages"
    agent.headers = {"X-Agent-Session": ""}
    async with agent.http:
        await agent.results(await agent.good("Plan the party."), BIG)
    return agent.session


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


async def test_list_show_history_and_export(laptop: Laptop, run: Run, session: str) -> None:
    data = ("--data", laptop.data)
    listed = run("session", "list", *data)
    as_json = json.loads(run("session", "list", *data, "-o", "json").out)
    shown = run("session", "show", session, *data)
    history = run("session", "history", session, *data)
    export = run("session", "export", session, *data)
    whole = json.loads(run("session", "export", session, *data, "-o", "json").out)

    assert listed.out.splitlines()[0].split() == [
        "SESSION",
        "SUBJECT",
        "STEPS",
        "VERSION",
        "STATE",
        "TOKENS",
        "UPDATED",
    ]
    assert any(session in line for line in listed.out.splitlines())
    row = next(row for row in as_json if row["session"] == session)
    assert (row["steps"] % 2, row["subject"]) == (0, f"session:{session}")
    assert "book the hall" in shown.out
    assert "Plan the party." in shown.out
    assert [row[3] for row in rows(history.out)[1:3]] == ["step", "step"]
    assert "tool_use" in history.out
    records = [json.loads(line) for line in export.out.splitlines()]
    assert records == whole
    assert BIG in [block["content"] for block in records[1]["payload"]["messages"][-1]["content"]]


def test_unknown_session_is_bad_input(laptop: Laptop, run: Run, refused: Run) -> None:
    assert run("session", "show", "nobody", "--data", laptop.data).complaint == "There is no such session."
    for command in ("history", "export"):
        assert refused("session", command, "nobody", "--data", laptop.data).complaint == "There is no such session."


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list"], "no sidecar runs on this machine; start one with `agentmemory up -f FILE`"),
        (["list", "--data", "/nowhere"], "no sidecar runs on /nowhere"),
        (["list", "-f", str(QUICKSTART)], "no sidecar runs on "),
        (["list", "-f", "missing.yaml"], "missing.yaml: cannot be read"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "-o", "xml"], "-o"),
        (["show"], "Missing argument"),
        (["shwo"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_2(refused: Run, arguments: list[str], says: str) -> None:
    assert says in refused("session", *arguments).complaint


def test_sidecar_that_was_killed_is_not_found(refused: Run, tmp_path: Path) -> None:
    gone = {"name": "x", "url": "http://127.0.0.1:1", "admin": "http://127.0.0.1:1", "token": "t", "pid": 2**22 - 1}
    (tmp_path / "sidecar.json").write_text(json.dumps(gone))

    assert "no sidecar runs on" in refused("session", "list", "--data", tmp_path).complaint


def test_several_sidecars_must_be_told_apart(laptop: Laptop, refused: Run, tmp_path: Path) -> None:
    home = tmp_path / "several"
    home.mkdir()
    for name in ("a", "b"):
        (home / name).symlink_to(laptop.data)

    ran = refused("session", "list", env={"AGENTMEMORY_HOME": str(home)})

    assert "several sidecars run here" in ran.complaint
