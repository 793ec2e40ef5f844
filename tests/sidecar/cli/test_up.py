"""``agentmemory up``: what it says, what it leaves behind, and what it does with bad input."""

import asyncio
import json
import stat
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.claude.fixtures import ClaudeProcess
from tests.sidecar.agents import Agent
from tests.sidecar.cli.conftest import QUICKSTART, Laptop, Run
from tests.sidecar.stores.postgres.test_schema import execute

GOOD = "apiVersion: agentmemory.io/v1alpha1\nkind: AgentMemory\nmetadata: {name: one}\nspec: {}\n"


async def test_it_serves_agents_and_says_where(laptop: Laptop, claude_process: ClaudeProcess) -> None:
    agent = Agent(laptop.url)
    async with agent.http:
        first, second = await agent.good("Hello."), await agent.good("Hello again.")

    assert (first.receipt["turn"], second.receipt["turn"], second.receipt["tier"]) == ("1", "2", "hot")
    assert len(await claude_process.requests()) == 2
    assert laptop.lines[0].startswith("agentmemory: default/")
    assert claude_process.url in laptop.lines[0]


def test_what_says_where_it_is_is_for_the_owner_alone(laptop: Laptop) -> None:
    file = laptop.data / "sidecar.json"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["url"] == laptop.url
    assert stat.S_IMODE((laptop.data / "keys").stat().st_mode) == 0o700 or not (laptop.data / "keys").exists()


def test_second_one_on_the_same_data_is_told_why_it_cannot(laptop: Laptop, run: Run) -> None:
    ran = run("up", "-f", QUICKSTART, "--listen", "127.0.0.1:0", "--data", laptop.data)

    assert ran.code == 1
    (line,) = [line for line in ran.err.splitlines() if line.startswith("agentmemory: ")]
    assert str(laptop.data) in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing option '-f'"),
        (["-f", "missing.yaml"], "missing.yaml: cannot be read"),
        (["-f", "empty.yaml"], "holds no AgentMemory"),
        (["-f", "typo.yaml"], "typo.yaml:4: spec.sttae"),
        (["-f", "good.yaml", "--name", "two"], "is called two"),
        (["-f", "good.yaml", "--region", "mars"], "region mars"),
        (["-f", "good.yaml", "--listen", "127.0.0.1:http"], "--listen must be HOST:PORT"),
        (["-f", "good.yaml", "--listen", "127.0.0.1:99999"], "--listen must be HOST:PORT"),
        (["-f", "good.yaml", "--upstream", "api.anthropic.com"], "--upstream must be a URL"),
        (["-f", "good.yaml", "--log-level", "LOUD"], "--log-level"),
        (["-f", "good.yaml", "extra"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_2(refused: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "empty.yaml").write_text("kind: Pod\n")
    (tmp_path / "typo.yaml").write_text(GOOD.replace("spec: {}", "spec: {sttae: {}}"))
    (tmp_path / "good.yaml").write_text(GOOD)

    ran = refused("up", *(tmp_path / one if one.endswith(".yaml") else one for one in arguments))

    assert says in ran.complaint


async def test_database_without_rights_is_one_line_and_exit_code_1(run: Run, tmp_path: Path, database: str) -> None:
    await execute(database, "DO $$ BEGIN CREATE ROLE nobodys LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    parts = urlsplit(database)
    dsn = urlunsplit(parts._replace(netloc=parts.netloc.replace(parts.username or "", "nobodys", 1)))
    redis, postgres = "{redis: {external: {urls: ['redis://127.0.0.1:1']}}}", f"{{postgres: {{dsn: '{dsn}'}}}}"
    stores = f"{{ephemeral: {redis}, state: {postgres}, archive: {postgres}}}"
    file = tmp_path / "postgres.yaml"
    file.write_text(GOOD.replace("{}", stores))

    ran = await asyncio.to_thread(run, "up", "-f", file, "--listen", "127.0.0.1:0", "--data", tmp_path / "data")

    assert ran.code == 1
    (line,) = [line for line in ran.err.splitlines() if "database" in line]
    assert line.startswith("agentmemory: postgres: the tables cannot be made: permission denied for database")
    assert "grant this role CREATE on the database" in line


def test_certificates_that_are_none_are_one_line_and_exit_code_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("hunter2")
    stores = (
        "{upstream: {tls: {caFrom: {file: ca.pem}}}, ephemeral: {redis: {external: {urls: ['redis://127.0.0.1:1']}}},"
        " state: {dynamodb: {table: abc, endpoint: 'https://127.0.0.1:1', tls: {caFrom: {file: ca.pem}}}},"
        " archive: {s3: {bucketPrefix: abc}}}"
    )
    (tmp_path / "bad.yaml").write_text(GOOD.replace("{}", stores))

    ran = run("up", "-f", tmp_path / "bad.yaml", "--listen", "127.0.0.1:0", "--data", tmp_path / "data")

    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert ran.err.startswith("agentmemory: spec.state.dynamodb.tls.caFrom: holds no certificates in PEM")
    assert "hunter2" not in ran.err


def test_port_that_is_taken_is_said(laptop: Laptop, run: Run, servers_directory: Path) -> None:
    address = laptop.url.removeprefix("http://")

    ran = run("up", "-f", QUICKSTART, "--listen", address, "--data", servers_directory / "other")

    assert ran.code == 1
    assert f"agentmemory: cannot listen on {address}: " in ran.err.splitlines()[-1]
