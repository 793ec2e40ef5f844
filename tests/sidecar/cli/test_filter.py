import json

import pytest
from click.testing import CliRunner

from agentmemory_sidecar.cli.filter import filter_
from agentmemory_sidecar.memory.filter import Lexical
from agentmemory_sidecar.memory.render import render

STATE = {
    "active_mission": {"goal": "ship 2.0"},
    "extracted_context": {"city": "Rome is sunny", "notes": ["deploys run on Tuesdays"]},
}


@pytest.fixture
def state(tmp_path):
    file = tmp_path / "state.json"
    file.write_text(json.dumps(STATE))
    return str(file)


def run(*arguments, **more):
    return CliRunner().invoke(filter_, list(arguments), **more)


def test_it_prints_what_the_sidecar_would_inject(state):
    result = run(
        "--state", state, "--query", "when do we deploy?", "--budget", "80", "--pinned", "/active_mission/goal"
    )
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["pointers"] == ["/active_mission/goal", "/extracted_context/notes/0"]
    assert told["text"] == render(Lexical().select(STATE, "when do we deploy?", 80, pinned=["/active_mission/goal"]))
    assert 0 < told["tokens"] <= 80


def test_the_state_may_come_from_standard_input_and_the_strategy_in_any_case():
    result = run("--state", "-", "--query", "rome", "--budget", "80", "--strategy", "NONE", input=json.dumps(STATE))
    assert json.loads(result.stdout) == {"pointers": [], "tokens": 0, "text": ""}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--strategy", "hybrid"], "needs --embeddings FOLDER"),
        (["--strategy", "SubAgent"], "needs a resource (-f) with filter.subAgent"),
        (["--strategy", "hybrid", "--embeddings", "/nowhere"], "the folder /nowhere has no model.onnx"),
        (["--strategy", "best"], "no strategy is called 'best'"),
        (["--pinned", "goal"], "'goal' is no JSON pointer"),
        (["--state", "missing.json"], "missing.json: No such file"),
        (["--state", "-"], "is a list, not an object"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(state, arguments, line):
    result = run("--state", state, "--query", "x", "--budget", "10", *arguments, input="[]")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert line in result.stderr


def test_a_negative_budget_is_refused(state):
    assert run("--state", state, "--query", "x", "--budget", "-1").exit_code == 2
