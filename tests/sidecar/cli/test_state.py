"""``agentmemory state migrate``: what a resource's migrations make of states, before and after it is applied."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentmemory_sidecar.resource import load
from tests.claude.fixtures import ClaudeProcess
from tests.sidecar.agents import Agent, todos
from tests.sidecar.cli.conftest import QUICKSTART, Laptop, Run

MOVE = {"op": "move", "from": "/active_mission/sub_tasks", "path": "/plan"}
TASKS: dict[str, Any] = {"goal": None, "blocked_by": None}
TEST = {"before": {"active_mission": {"sub_tasks": ["a"]}}, "after": {"active_mission": {}, "plan": ["a"]}}


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The quickstart's resource with a later form, in which tasks are a plan of at most two."""
    resource = yaml.safe_load(QUICKSTART.read_text())
    resource["spec"]["state"] = {
        "schema": {"version": "3", "definition": {"properties": {"plan": {"type": "array", "maxItems": 2}}}},
        "migrations": [{"from": "2.1", "to": "3", "patch": [MOVE], "tests": [TEST]}],
    }
    file = tmp_path / "later.yaml"
    file.write_text(yaml.safe_dump(resource))
    assert load(file).spec.state.schema_ is not None
    return file


def written(directory: Path, *tasks: str) -> Path:
    file = directory / f"{len(tasks)}.json"
    state = {"metadata": {"v": "2.1"}, "active_mission": {**TASKS, "sub_tasks": list(tasks)}}
    file.write_text(json.dumps(state))
    return file


def test_states_in_files_are_tried(run: Run, later: Path, tmp_path: Path) -> None:
    few, many = written(tmp_path, "a"), written(tmp_path, "a", "b", "c")
    done = run("state", "migrate", "--dry-run", "-f", later, "--state", few)
    assert done.code == 0
    assert "1 migrations, 1 tests passed, schema 3" in done.out
    assert done.out.splitlines()[-1].split() == [str(few), "2.1", "3", "anew"]

    done = run("state", "migrate", "--dry-run", "-f", later, "--state", few, "--state", many, "-o", "json")
    assert done.code == 1
    first, second = json.loads(done.out)
    assert (first["from"], first["to"], first["problems"]) == ("2.1", "3", [])
    assert [each["pointer"] for each in second["problems"]] == ["/plan"]


def test_bad_input_is_told(refused: Run, later: Path, tmp_path: Path) -> None:
    assert "--dry-run needs -f FILE" in refused("state", "migrate", "--dry-run").complaint
    assert "a file is never changed" in refused("state", "migrate", "-f", later, "--state", later).complaint
    said = refused("state", "migrate", "--dry-run", "-f", later, "--state", tmp_path / "none.json").complaint
    assert "No such file" in said
    broken = later.read_text().replace("maxItems: 2", "maxItems: many")
    later.write_text(broken)
    assert "spec.state.schema.definition" in refused("state", "migrate", "--dry-run", "-f", later).complaint


async def test_sessions_of_a_running_sidecar_are_tried_and_kept_as_they_are(
    laptop: Laptop, run: Run, claude_process: ClaudeProcess, later: Path
) -> None:
    agent = Agent(laptop.url, session="to-migrate", headers={"X-Agent-Session": "to-migrate"})
    await claude_process.script({"blocks": [todos("book the hall")]}, "I see.")
    async with agent.http:
        await agent.results(await agent.good("Plan the party."))

    tried = run("state", "migrate", "--dry-run", "-f", later, "--data", laptop.data, "-o", "json")
    row = next(row for row in json.loads(tried.out) if row["session"] == "to-migrate")
    assert (row["from"], row["to"], row["problems"]) == ("2.1", "3", [])

    # The sidecar that runs has the older form: there is nothing that it would store.
    done = run("state", "migrate", "--data", laptop.data, "-o", "json")
    assert done.code == 0
    row = next(row for row in json.loads(done.out) if row["session"] == "to-migrate")
    assert (row["from"], row["to"]) == ("2.1", "2.1")
