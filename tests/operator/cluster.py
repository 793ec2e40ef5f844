"""kubectl for tests that are marked `cluster`, and a namespace for each. See conftest.py for which cluster."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

VARIABLE = "AGENTMEMORY_KUBE_CONTEXT"
DEFINITION = Path(__file__).parents[2] / "crds" / "agentmemories.yaml"


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl in one context, and in one namespace where it has one."""

    context: str
    namespace: str = ""

    def run(self, *arguments: str, manifest: Any = None) -> subprocess.CompletedProcess[str]:
        """Run it, with ``manifest`` as JSON on its standard input; the caller looks at the exit code."""
        place = [f"--namespace={self.namespace}"] if self.namespace else []
        command = ["kubectl", f"--context={self.context}", *place, *arguments]
        text = None if manifest is None else json.dumps(manifest)
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    def do(self, *arguments: str, manifest: Any = None) -> str:
        """Run it; what it prints. It must succeed."""
        done = self.run(*arguments, manifest=manifest)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout

    def get(self, *what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.do("get", *what, "--output=json"))
        return found

    def refusal(self, *arguments: str, manifest: Any = None) -> str:
        """Run what must not succeed; what it says."""
        done = self.run(*arguments, manifest=manifest)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} was accepted: {done.stdout}"
        return done.stderr


def agentmemory(spec: Mapping[str, Any] | None, name: str = "test") -> dict[str, Any]:
    """A resource around a spec."""
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": name},
        **({} if spec is None else {"spec": dict(spec)}),
    }


@pytest.fixture(scope="session")
def definition() -> str:
    """The context of a cluster that knows AgentMemory as the repository has it."""
    context = os.environ[VARIABLE]
    kubectl = Kubectl(context)
    wanted = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    live = kubectl.run("get", "customresourcedefinition", wanted["metadata"]["name"], "--output=json")
    # One that is right may be Helm's, which would not get back what we took over.
    if live.returncode or json.loads(live.stdout)["spec"]["versions"] != wanted["spec"]["versions"]:
        kubectl.do("apply", "--server-side", "--force-conflicts", f"--filename={DEFINITION}")
    kubectl.do(
        "wait", "--for=condition=Established", "--timeout=30s", "customresourcedefinition/agentmemories.agentmemory.io"
    )
    return context


@pytest.fixture
def kubectl(definition: str) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own, which goes with it."""
    namespace = f"test-{uuid4().hex[:8]}"
    Kubectl(definition).do("create", "namespace", namespace)
    yield Kubectl(definition, namespace)
    Kubectl(definition).do("delete", "namespace", namespace, "--wait=false")
