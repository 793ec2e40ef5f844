"""Unmodified agents: a Deployment that knows of no memory, and what one says through its pod."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from e2e.cluster.shell import kubectl, kubectl_json
from e2e.cluster.wait import until

CLAUDE = "http://claude.standins:8080"
IMAGE = "agentmemory-drill:e2e"
RESTRICTED: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True)
class Said:
    """One turn's outcome."""

    answer: str
    receipt: dict[str, str]
    """The sidecar's headers; empty without a sidecar."""


def container(*command: str) -> dict[str, Any]:
    return {
        "name": "agent",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": list(command),
        "env": [{"name": "ANTHROPIC_BASE_URL", "value": CLAUDE}],
        "securityContext": RESTRICTED,
    }


def deployment(namespace: str, name: str = "agent", region: str = "", replicas: int = 1) -> dict[str, Any]:
    """An agent that waits to be spoken to."""
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": 30, "containers": [container("sleep", "infinity")]}
    if region:
        pod["nodeSelector"] = {"topology.kubernetes.io/region": region}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


def job(namespace: str, name: str, *command: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [container(*command)]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels or {}}, "spec": pod}},
    }


async def apply(*manifests: dict[str, Any]) -> None:
    await kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(manifest) for manifest in manifests))


async def rolled_out(namespace: str, what: str, timeout_s: int = 120) -> None:
    await kubectl("-n", namespace, "rollout", "status", what, f"--timeout={timeout_s}s", timeout_s=timeout_s + 10)


async def pods(namespace: str, selector: str) -> list[dict[str, Any]]:
    """Those that are not on their way out."""
    found = await kubectl_json("-n", namespace, "get", "pods", "-l", selector)
    return [pod for pod in found["items"] if not pod["metadata"].get("deletionTimestamp")]


async def running_pod(namespace: str, app: str = "agent") -> str:
    async def look() -> str:
        for pod in await pods(namespace, f"app={app}"):
            states = [row["ready"] for row in pod["status"].get("containerStatuses", ())]
            if states and all(states):
                return str(pod["metadata"]["name"])
        return ""

    return await until(f"a running pod of {namespace}/{app}", look, timeout_s=120)


async def ask(namespace: str, session: str, text: str, app: str = "agent", retries: int | None = None) -> Said:
    """One turn on an empty history, through whichever pod runs. Raises Failed with what the agent printed.

    ``retries`` is how often its SDK tries again; None for the SDK's default.
    """
    (said,) = await ask_each(namespace, [session], text, app, retries)
    return said


async def ask_each(
    namespace: str, sessions: Sequence[str], text: str, app: str = "agent", retries: int | None = None
) -> list[Said]:
    """The same turn in each session, from one process: to start that costs more than a turn."""
    pod = await running_pod(namespace, app)
    setting = [] if retries is None else ["env", f"AGENT_RETRIES={retries}"]
    command = [*setting, "python", "agent.py", ",".join(sessions), text]
    output = await kubectl("-n", namespace, "exec", pod, "-c", "agent", "--", *command)
    lines = map(json.loads, output.out.strip().splitlines()[-len(sessions) :])
    return [Said(line["answer"], line["receipt"]) for line in lines]


async def memory(namespace: str, name: str) -> dict[str, str]:
    """The conditions of an AgentMemory: type to status and reason, such as ``True/Ready``."""
    found = await kubectl_json("-n", namespace, "get", "agentmemory", name)
    rows = found.get("status", {}).get("conditions", ())
    return {row["type"]: f"{row['status']}/{row['reason']}: {row['message']}".rstrip(": ") for row in rows}


async def ready(namespace: str, name: str, timeout_s: float) -> dict[str, str]:
    async def look() -> dict[str, str]:
        conditions = await memory(namespace, name)
        assert conditions.get("Ready", "").startswith("True"), conditions
        return conditions

    return await until(f"AgentMemory {namespace}/{name} to be Ready", look, timeout_s=timeout_s)
