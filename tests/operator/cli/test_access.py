"""``agentmemory -n NAMESPACE session …``: the command as a person has it, through a port-forward to the real service."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from agentmemory_sidecar.cli.main import agentmemory
from tests.operator.tools.api_server import SYSTEM, ApiServer
from tests.operator.tools.conftest import (
    Asking,
    Remembered,
    api,
    configure,
    connect,
    dsn,
    reader,
    remembered,
    run_dir,
    serve,
    start,
)

__all__ = ["api", "configure", "connect", "dsn", "reader", "remembered", "run_dir", "serve", "start"]

Cli = Callable[..., Any]
ACCOUNT = f"system:serviceaccount:{SYSTEM}:agentmemory-sessions"


@pytest.fixture
async def service(api: ApiServer, serve: Callable[..., Any], remembered: Remembered) -> Asking:
    api.ready_pod()
    found: Asking = await serve()
    return found


@pytest.fixture
def cli(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """``result = await cli("-n", "agents", "session", "list", token=…)``."""
    kubeconfig = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))

    async def call(*arguments: str, token: str = "") -> Result:
        kubeconfig.write_text(yaml.safe_dump(api.kubeconfig(token)))
        return await asyncio.to_thread(CliRunner().invoke, agentmemory, list(arguments))

    return call


def grant(api: ApiServer, user: str, *verbs: str) -> None:
    api.rights |= {(user, "agents", verb, "") for verb in verbs}


async def test_sessions_are_listed_shown_and_exported(
    api: ApiServer, service: Asking, cli: Cli, remembered: Remembered
) -> None:
    grant(api, "anna", "get", "list")
    token = api.user("anna")

    listed = await cli("-n", "agents", "session", "list", token=token)
    shown = await cli("session", "show", remembered.session, "-n", "agents", "--memory", "test", token=token)
    history = await cli("-n", "agents", "--context", "it", "session", "history", remembered.session, token=token)
    export = await cli("-n", "agents", "session", "export", remembered.session, "-o", "json", token=token)

    assert (listed.exit_code, listed.output.splitlines()[1][: len(remembered.session)]) == (0, remembered.session)
    assert "Plan the party." in shown.output
    assert "end_turn" in history.output
    assert len(json.loads(export.output)) == 1
    assert api.minted == 0


async def test_who_may_not_is_told_which_right_is_missing(api: ApiServer, service: Asking, cli: Cli) -> None:
    refused = await cli("-n", "agents", "session", "list", token=api.user("ben"))
    assert refused.exit_code == 1
    assert "ben may not list agentmemories/sessions of all AgentMemories in namespace agents" in refused.output


async def test_unknown_session_is_bad_input(api: ApiServer, service: Asking, cli: Cli) -> None:
    grant(api, "anna", "get")
    refused = await cli("-n", "agents", "session", "show", "nobody", token=api.user("anna"))
    assert (refused.exit_code, "There is no such session." in refused.output) == (2, True)


async def test_without_a_token_a_service_account_is_asked_for(api: ApiServer, service: Asking, cli: Cli) -> None:
    grant(api, ACCOUNT, "list")

    refused = await cli("-n", "agents", "session", "list")
    api.minters.add(f"{SYSTEM}/agentmemory-sessions")
    listed = await cli("-n", "agents", "session", "list", "-o", "json")

    assert refused.exit_code == 1
    assert f"no token of service account {SYSTEM}/agentmemory-sessions" in refused.output
    assert "cannot create token" in refused.output
    assert [row["steps"] for row in json.loads(listed.output)] == [1]
    assert api.minted == 1


async def test_a_service_account_of_the_namespace_goes_before_ones_own_token(
    api: ApiServer, service: Asking, cli: Cli
) -> None:
    grant(api, "system:serviceaccount:agents:support", "list")
    api.minters.add("agents/support")
    ask = ("-n", "agents", "session", "list", "--service-account", "support")
    assert (await cli(*ask, token=api.user("anna"))).exit_code == 0
    assert api.reviews[-1]["user"] == "system:serviceaccount:agents:support"


async def test_settling_goes_through_too(api: ApiServer, service: Asking, cli: Cli, remembered: Remembered) -> None:
    grant(api, "anna", "get", "update")
    token = api.user("anna")
    assert (
        await cli("-n", "agents", "session", "conflicts", remembered.session, token=token)
    ).output == "no conflict\n"
    settled = await cli("-n", "agents", "session", "conflicts", remembered.session, "--settle", "x", token=token)
    assert (settled.exit_code, "There is no open conflict x" in settled.output) == (2, True)
    moved = await cli("-n", "agents", "region", "move", remembered.session, "--to", "r9", token=token)
    assert (moved.exit_code, "There is no other region 'r9' to move to" in moved.output) == (2, True)


async def test_no_service_and_no_answer_are_told_apart(api: ApiServer, cli: Cli) -> None:
    ask, token = ("-n", "agents", "session", "list"), api.user("anna")
    nothing = await cli(*ask, token=token)
    elsewhere = await cli(*ask, "--tools-namespace", "memory", token=token)
    api.ready_pod()
    api.port = 1
    silent = await cli(*ask, token=token)
    api.pods[0]["status"]["conditions"][0]["status"] = "False"
    unready = await cli(*ask, token=token)
    unknown = await cli(*ask, "--context", "nowhere", token=token)

    assert (nothing.exit_code, "there is no tools service in namespace agentmemory-system" in nothing.output) == (
        2,
        True,
    )
    assert "there is no tools service in namespace memory" in elsewhere.output
    assert (silent.exit_code, "the sidecar does not answer" in silent.output) == (1, True)
    assert (unready.exit_code, "is not ready: try again" in unready.output) == (1, True)
    assert (unknown.exit_code, "no cluster: " in unknown.output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-n", "agents", "session", "list", "--data", "x"], "-n asks a cluster, and -f and --data a sidecar"),
        (["session", "list", "--memory", "x"], "--memory goes with -n"),
        (["--context", "x", "session", "list"], "--context goes with -n"),
        (["-n", "agents", "up", "-f", "x"], "up` has no --namespace"),
        (["-n", "agents", "run", "-f", "x", "--", "ls", "-n"], "run` has no --namespace"),
        (["--context", "x", "up", "-f", "x"], "up` has no --context"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_what_does_not_go_together_is_told(cli: Cli, arguments: list[str], says: str) -> None:
    refused = await cli(*arguments)
    assert (refused.exit_code, says in refused.output) == (2, True), refused.output


async def test_help_needs_no_cluster(cli: Cli) -> None:
    for arguments in (["-n", "agents", "session"], ["-n", "agents", "session", "--help"], ["--help"]):
        assert "Usage:" in (await cli(*arguments)).output


async def test_a_commands_own_namespace_goes_before(api: ApiServer, service: Asking, cli: Cli) -> None:
    grant(api, "anna", "list")
    listed = await cli("-n", "elsewhere", "session", "list", "-nagents", token=api.user("anna"))
    assert listed.exit_code == 0
