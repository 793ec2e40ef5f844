"""The definition on a real API server: what it takes, what it refuses, and in which words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentmemory_sidecar.resource import ResourceError, parse
from tests.operator.bad_resources import cases
from tests.operator.cluster import Kubectl, agentmemory

pytestmark = pytest.mark.cluster
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
TRY = ("apply", "--validate=strict", "--dry-run=server", "--filename=-")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples_are_taken_and_mean_the_same(kubectl: Kubectl, file: Path) -> None:
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    written["metadata"]["namespace"] = kubectl.namespace
    kubectl.do("apply", "--validate=strict", "--filename=-", manifest=written)
    stored = kubectl.get("agentmemory", written["metadata"]["name"])
    assert parse(stored).spec == parse(written).spec
    assert "unchanged" in kubectl.do("apply", "--filename=-", manifest=written)


@pytest.mark.parametrize("case", cases("refused"), ids=lambda case: case["name"])
def test_a_bad_spec_is_refused_in_words_that_help(definition: str, case: dict[str, Any]) -> None:
    said = Kubectl(definition).refusal(*TRY, manifest=agentmemory(case["spec"]))
    assert all(text in said for text in case["says"]), said


@pytest.mark.parametrize("case", cases("accepted"), ids=lambda case: case["name"])
def test_what_rules_cannot_say_is_found_in_the_stored_object(kubectl: Kubectl, case: dict[str, Any]) -> None:
    kubectl.do("apply", "--filename=-", manifest=agentmemory(case["spec"]))
    with pytest.raises(ResourceError) as refused:
        parse(kubectl.get("agentmemory", "test"))
    assert all(text in str(refused.value) for text in case["says"]), str(refused.value)


@pytest.mark.parametrize("case", cases("changes"), ids=lambda case: case["name"])
def test_an_immutable_field_stays(kubectl: Kubectl, case: dict[str, Any]) -> None:
    kubectl.do("apply", "--filename=-", manifest=agentmemory(case["spec"]))
    patch = yaml.safe_dump({"spec": case["patch"]})
    said = kubectl.refusal("patch", "agentmemory", "test", "--type=merge", f"--patch={patch}")
    assert all(text in said for text in case["says"]), said


def test_what_may_change_changes(kubectl: Kubectl) -> None:
    kubectl.do("apply", "--filename=-", manifest=agentmemory({"tenant": "acme", "state": {"embedded": {}}}))
    patch = {"spec": {"state": {"embedded": None, "dynamodb": {"table": "first-table"}}, "ephemeral": {"turns": 7}}}
    kubectl.do("patch", "agentmemory", "test", "--type=merge", f"--patch={yaml.safe_dump(patch)}")


def test_the_table_of_kubectl_shows_the_tiers(kubectl: Kubectl) -> None:
    kubectl.do("apply", "--filename=-", manifest=agentmemory({}))
    rows = [
        {"type": kind, "status": status, "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind, status in (
            ("Ready", "True"),
            ("RedisReady", "True"),
            ("StateReady", "False"),
            ("ArchiveReady", "True"),
        )
    ]
    status = {
        "observedGeneration": 1,
        "conditions": rows,
        "regions": [{"region": "local", "ready": True, "stores": "anything"}],
        "regionsReady": "1/1",
    }
    patch = yaml.safe_dump({"status": status})
    kubectl.do("patch", "agentmemory", "test", "--subresource=status", "--type=merge", f"--patch={patch}")
    header, row = kubectl.do("get", "am").splitlines()
    assert header.split() == ["NAME", "READY", "REGIONS", "REDIS", "STATE", "ARCHIVE", "AGE"]
    assert row.split()[:6] == ["test", "True", "1/1", "True", "False", "True"]
    assert kubectl.get("agentmemory", "test")["status"] == status
    assert "test" in kubectl.do("get", "agents")


def test_a_status_that_is_no_status_is_refused(kubectl: Kubectl) -> None:
    kubectl.do("apply", "--filename=-", manifest=agentmemory({}))
    patch = yaml.safe_dump({"status": {"conditions": [{"type": "Ready", "status": "Perhaps"}]}})
    said = kubectl.refusal("patch", "agentmemory", "test", "--subresource=status", "--type=merge", f"--patch={patch}")
    assert "status.conditions[0].status" in said
    assert "status.conditions[0].reason" in said
