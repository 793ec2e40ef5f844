"""What ``agentmemory drill`` says of bad input, and what it does with a cluster's answers. A real cluster is in e2e."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agentmemory_operator.cli.drill import drill
from agentmemory_operator.drill.conversation import RULES


def called(*arguments: str) -> Result:
    return CliRunner().invoke(drill, [*arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["link", "-f", "support"], "nothing on a cluster can stop it"),
        (["drain", "-f", "support", "--node", "n"], "--allow-privileged"),
        (["drain", "-f", "support", "--allow-privileged"], "drain needs --node"),
        (["pod", "-f", "support", "--node", "n"], "--node goes with drain"),
        (["pod", "-f", "support", "--also", "app=postgres"], "--also goes with cold"),
        (["pod", "-f", "support", "--skew", "10"], "--skew goes with clock"),
        (["clock", "-f", "support", "--skew", "0"], "not in the range"),
        (["pod", "-f", "support", "--api-key-from", "claude"], "SECRET/KEY"),
        (["pod", "-f", "support", "--context", "us-east-1="], "say REGION=CONTEXT"),
        (["pod", "-f", "support", "--context", "a=b", "--context", "a=c"], "there is one for a already"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(arguments: list[str], said: str) -> None:
    result = called(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def manifest(*regions: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": "support", "namespace": "default"},
        "spec": {
            "regions": list(regions),
            "state": {"dynamodb": {"table": "support-state"}},
            "archive": {"s3": {"bucketPrefix": "acme"}},
            "session": {"identity": {"headers": ["X-Agent-Session"]}},
            **more,
        },
    }


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that knows one AgentMemory, injects no sidecar but one that ``pod`` has, has the pods of ``pods``, and notes
    what it is asked."""
    program = tmp_path / "kubectl"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        'case "$*" in\n'
        f"  *'get agentmemory support'*) cat {tmp_path}/memory;;\n"
        f'  *"create --dry-run=server"*) cat {tmp_path}/pod 2>/dev/null || cat;;\n'
        f'  *"get pods -l agentmemory.io/resource=support,"*) cat {tmp_path}/pods;;\n'
        """  *"get pods -l app=postgres"*) echo '{"items": []}';;\n"""
        "  *) echo 'Error from server (NotFound): no such thing' >&2; exit 1;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def knows(cluster: Path, resource: dict[str, Any]) -> None:
    (cluster / "memory").write_text(json.dumps(resource))


@pytest.mark.parametrize(
    ("arguments", "resource", "said"),
    [
        (["pod", "-f", "other"], manifest("local"), "no such thing"),
        (["pod", "-f", "support"], manifest("us-east-1"), "agentmemory_drill"),
        (["region", "-f", "support"], manifest("us-east-1", extraction={"rules": RULES}), "there is no other"),
        (["pause", "-f", "support"], manifest("us-east-1", extraction={"rules": RULES}), "there is no other"),
        (
            ["region", "-f", "support", "--region", "moon"],
            manifest("us-east-1", "us-west-2", extraction={"rules": RULES}),
            "moon is no region of support",
        ),
        (
            ["pod", "-f", "agentmemory/support", "--context", "us-east-1=a"],
            manifest("us-east-1", "us-west-2", extraction={"rules": RULES}),
            "no context for us-west-2",
        ),
        (
            ["pod", "-f", "support"],
            manifest("us-east-1", extraction={"rules": RULES}),
            "pods get no sidecar here",
        ),
    ],
)
def test_a_cluster_that_cannot_be_drilled_is_left_alone(
    cluster: Path, arguments: list[str], resource: dict[str, Any], said: str
) -> None:
    knows(cluster, resource)
    result = called(*arguments)
    assert result.exit_code == 2, result.output
    assert said in result.output
    asked = (cluster / "asked").read_text()
    assert "apply" not in asked
    assert "delete" not in asked


def test_a_cold_start_names_the_pods_that_it_would_take_from_others(cluster: Path) -> None:
    knows(cluster, manifest("us-east-1", extraction={"rules": RULES}))
    sidecar = {"name": "agentmemory", "image": "sidecar", "restartPolicy": "Always"}
    spec = {"initContainers": [sidecar], "containers": [{"name": "agent", "image": "none"}]}
    (cluster / "pod").write_text(json.dumps({"metadata": {}, "spec": spec}))
    stores = [{"metadata": {"name": f"support-redis-{number}", "uid": str(number)}} for number in (1, 0)]
    (cluster / "pods").write_text(json.dumps({"items": stores}))
    result = called("cold", "-f", "support", "--also", "app=postgres")
    assert result.exit_code == 2, result.output
    assert "others may use, too: support-redis-0, support-redis-1: allow it with --allow-privileged" in result.output
    asked = (cluster / "asked").read_text()
    assert "get pods -l app=postgres" in asked
    assert "apply" not in asked
    assert "delete" not in asked
