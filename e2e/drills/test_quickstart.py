"""The very file of the laptop, on a cluster: nothing of the agent changes but a label on its pods."""

import json
import secrets
import sys
from pathlib import Path

from e2e.cluster.agents import apply, ask, deployment, job, pods, ready, rolled_out, running_pod
from e2e.cluster.shell import NAME, kubectl, run

QUICKSTART = Path("examples/quickstart.yaml")
LABEL = '{"spec":{"template":{"metadata":{"labels":{"agentmemory.io/inject":"true"}}}}}'
QUESTION = "What is the code word of the launch?"


async def test_an_agent_that_ran_before_is_remembered_after_its_pod_is_gone(namespace: str) -> None:
    fact, session = f"heliotrope {secrets.randbelow(100000)}", f"s-{secrets.token_hex(4)}"
    await apply(deployment(namespace))
    await rolled_out(namespace, "deployment/agent")
    before = await ask(namespace, session, f"The code word of the launch is {fact}.")
    assert not before.receipt  # no sidecar yet
    assert fact not in (await ask(namespace, session, QUESTION)).answer

    await kubectl("-n", namespace, "apply", "-f", "-", stdin=QUICKSTART.read_text())
    await ready(namespace, "quickstart", timeout_s=180)
    await kubectl("-n", namespace, "patch", "deployment", "agent", "-p", LABEL)
    await rolled_out(namespace, "deployment/agent")
    told = await ask(namespace, session, f"The code word of the launch is {fact}.")
    assert told.receipt["x-agentmemory-session"] == session

    old = await running_pod(namespace)
    await kubectl("-n", namespace, "delete", "pod", old)
    known = await ask(namespace, session, QUESTION)
    assert fact in known.answer, known
    assert fact not in (await ask(namespace, f"{session}-other", QUESTION)).answer

    await seen_from_outside(namespace, session, fact)

    for pod in await pods(namespace, "app.kubernetes.io/name=agentmemory-stores"):
        await kubectl("-n", namespace, "delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    await ready(namespace, "quickstart", timeout_s=120)
    again = await ask(namespace, session, QUESTION + " Once more.")
    assert fact in again.answer, again

    labels = {"agentmemory.io/inject": "true"}
    await apply(job(namespace, "once", "python", "agent.py", session, QUESTION, labels=labels))
    await kubectl("-n", namespace, "wait", "--for=condition=Complete", "job/once", "--timeout=120s")
    said = await kubectl("-n", namespace, "logs", "job/once", "-c", "agent")
    assert fact in said.out


async def seen_from_outside(namespace: str, session: str, fact: str) -> None:
    """By who may, with this machine's kubeconfig (a client certificate); and by nobody else."""
    command = [sys.executable, "-m", "agentmemory_sidecar.cli", "-n", namespace, "--context", f"kind-{NAME}", "session"]
    listed = await run(*command, "list", "-o", "json")
    assert session in [row["session"] for row in json.loads(listed.out)]
    shown = await run(*command, "show", session)
    assert fact in shown.out

    await kubectl("-n", namespace, "create", "serviceaccount", "stranger")
    refused = await run(*command, "show", session, "--service-account", "stranger", check=False)
    assert refused.code == 1
    assert f"system:serviceaccount:{namespace}:stranger may not get agentmemories/sessions" in refused.err
    assert fact not in refused.out + refused.err
