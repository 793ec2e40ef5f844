"""``agentmemory run``: the command's environment, its exit code, and a sidecar where none runs."""

import json
import sys
from pathlib import Path

import pytest

from agentmemory_sidecar.cli.run import client_environment
from tests.claude.fixtures import ClaudeProcess
from tests.sidecar.cli.conftest import QUICKSTART, Laptop, Run
from tests.sidecar.conftest import Configure

SHOW = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if 'ANTHROPIC' in k or 'CLAUDE' in k}))"
ASK = """
import anthropic
client = anthropic.Anthropic(api_key="k", max_retries=0)
with client.messages.stream(
    model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": "Hello."}]
) as stream:
    print(stream.get_final_text(), stream.response.headers["x-agentmemory-session"])
"""


def test_command_gets_what_its_client_needs(laptop: Laptop, run: Run) -> None:
    ran = run("run", "-f", QUICKSTART, "--data", laptop.data, "--session", "s1", "--", sys.executable, "-c", SHOW)

    found = json.loads(ran.out)
    assert found["ANTHROPIC_BASE_URL"] == found["ANTHROPIC_API_URL"] == laptop.url
    assert found["CLAUDE_CODE_GATEWAY_HINT_HEADERS"] == "1"
    assert found["ANTHROPIC_CUSTOM_HEADERS"] == "x-agent-session: s1"


def test_unmodified_sdk_is_a_session(laptop: Laptop, run: Run, claude_process: ClaudeProcess) -> None:
    ran = run("run", "-f", QUICKSTART, "--data", laptop.data, "--session", "s2", "--", sys.executable, "-c", ASK)

    assert (ran.code, ran.out.split()[-1]) == (0, "s2"), ran.err


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 143)]
)
def test_exit_code_is_the_commands(laptop: Laptop, run: Run, code: str, expected: int) -> None:
    ran = run("run", "-f", QUICKSTART, "--data", laptop.data, "--", sys.executable, "-c", code)

    assert ran.code == expected


def test_sidecar_is_started_and_stopped_with_the_command(
    run: Run, servers_directory: Path, claude_process: ClaudeProcess
) -> None:
    data = servers_directory / "own"
    options = ("-f", QUICKSTART, "--data", data, "--upstream", claude_process.url, "--session", "s3")

    ran = run("run", *options, "--", sys.executable, "-c", ASK)

    assert (ran.code, ran.out.split()[-1]) == (0, "s3"), ran.err
    assert not (data / "sidecar.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'COMMAND...'"),
        (["--", "no-such-program-anywhere"], "cannot run no-such-program-anywhere: No such file"),
    ],
    ids=["none", "unknown"],
)
def test_bad_command_is_one_line_and_exit_code_2(laptop: Laptop, refused: Run, arguments: list[str], says: str) -> None:
    assert says in refused("run", "-f", QUICKSTART, "--data", laptop.data, *arguments).complaint


def test_session_without_a_header_goes_into_the_path(configure: Configure) -> None:
    named = configure()
    nameless = configure({"session": {"identity": {"headers": []}}})
    present = {"ANTHROPIC_CUSTOM_HEADERS": "X-Other: 1"}

    with_header = client_environment("http://h:1", "s 1", named, present)
    without = client_environment("http://h:1", "a/b ü", nameless, present)

    assert with_header["ANTHROPIC_CUSTOM_HEADERS"] == "X-Other: 1\nx-agent-session: s 1"
    assert without["ANTHROPIC_BASE_URL"] == "http://h:1/s/a%2Fb%20%C3%BC"
    assert "ANTHROPIC_CUSTOM_HEADERS" not in without
