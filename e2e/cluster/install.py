"""Installing what is drilled, and keeping what a failure leaves behind."""

import subprocess
from pathlib import Path

from e2e.cluster.shell import CONTROL_PLANE, helm, kubectl

SYSTEM = "agentmemory-system"
STANDINS = Path(__file__).with_name("standins.yaml")
VALUES = Path(__file__).with_name("values.yaml")


async def install() -> None:
    """Stand-ins, CRDs, operator and webhook; returns when all of them serve."""
    await kubectl("apply", "-f", "-", stdin=STANDINS.read_text())
    await helm(
        "upgrade", "--install", "agentmemory-crds", "charts/agentmemory-crds", "-n", SYSTEM, "--create-namespace"
    )
    await upgrade()
    await kubectl("-n", "standins", "rollout", "status", "deployment/claude", "--timeout=120s")
    await kubectl("-n", "standins", "rollout", "status", "deployment/aws", "--timeout=120s")


async def upgrade(*arguments: str) -> None:
    await helm(
        "upgrade", "--install", "agentmemory", "charts/agentmemory", "-n", SYSTEM, "-f", str(VALUES), *arguments,
        "--wait", "--timeout", "180s",
    )  # fmt: skip


def dump(folder: Path) -> Path:
    """What the cluster looks like now: pods, events, descriptions, and the last logs of every pod that is ours."""
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, *arguments: str) -> None:
        command = ["docker", "exec", CONTROL_PLANE, "kubectl", *arguments]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        (folder / name).write_text(found.stdout + found.stderr)

    keep("pods.txt", "get", "pods,pvc,statefulsets,deployments,jobs", "-A", "-o", "wide")
    keep("events.txt", "get", "events", "-A", "--sort-by=.lastTimestamp")
    keep("memories.yaml", "get", "agentmemories", "-A", "-o", "yaml")
    keep("describe.txt", "describe", "pods", "-A", "-l", "app.kubernetes.io/managed-by")
    listed = subprocess.run(
        ["docker", "exec", CONTROL_PLANE, "kubectl", "get", "pods", "-A", "-o",
         r'jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}'],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    for line in listed.stdout.splitlines():
        namespace, _, pod = line.partition(" ")
        if namespace in ("kube-system", "local-path-storage"):
            continue
        keep(f"{namespace}.{pod}.log", "-n", namespace, "logs", pod, "--all-containers", "--prefix", "--tail=300")
        keep(f"{namespace}.{pod}.previous.log", "-n", namespace, "logs", pod, "--all-containers", "-p", "--tail=300")
    return folder
