"""``agentmemory drill`` as a person calls it, and what stands around it."""

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from agentmemory_operator.drill.cluster import Kubectl
from e2e.cluster.agents import CLAUDE
from e2e.cluster.shell import CONTROL_PLANE, kubectl, kubectl_json, run

ASK = "Call the tool. [[tool:agentmemory_drill {call}]]"
KUBECTL = Kubectl(("docker", "exec", "-i", CONTROL_PLANE, "kubectl"))
REPORTS = Path("build/e2e")


async def refusals() -> int:
    """How many requests the strict Claude has refused so far."""
    script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/__claude/counters').read().decode())"
    said = await kubectl("-n", "standins", "exec", "deploy/claude", "--", "python", "-c", script)
    found = yaml.safe_load(said.out)
    return int(found.get("refused", 0))


async def command(kind: str, namespace: str, memory: str, *more: str) -> dict[str, Any]:
    """Its report. Raises AssertionError with what it said where there is none."""
    agentmemory = str(Path(sys.executable).with_name("agentmemory"))
    REPORTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "kubectl")
        program.write_text(f'#!/bin/sh\nexec {" ".join(KUBECTL.prefix)} "$@"\n')
        program.chmod(0o755)
        output = await run(
            "env", f"PATH={folder}:{os.environ['PATH']}", agentmemory, "drill", kind, "-n", namespace,
            "-f", f"agentmemory/{memory}", "--upstream", CLAUDE, "--ask", ASK, "--hold", "5", "--turns", "3",
            "-o", "json", "--report", str(REPORTS / f"command-{kind}.json"), *more, check=False, timeout_s=900,
        )  # fmt: skip
    assert output.code in (0, 1), output.err[-3000:]
    assert output.out, output.err[-3000:]
    report: dict[str, Any] = json.loads(output.out)
    return report


@asynccontextmanager
async def contexts(*names: str) -> AsyncIterator[None]:
    """kubectl's contexts of these names, for as long as this lasts. All lead to the one cluster."""
    config = await kubectl_json("config", "view")
    (there,) = (each["context"] for each in config["contexts"] if each["name"] == config["current-context"])
    try:
        for name in names:
            await kubectl("config", "set-context", name, f"--cluster={there['cluster']}", f"--user={there['user']}")
        yield
    finally:
        for name in names:
            await kubectl("config", "delete-context", name, check=False)
