"""The very file of the laptop, on a cluster: nothing of the agent changes but a label on its pods."""

import secrets
from pathlib import Path

from e2e.cluster.agents import apply, ask, deployment, job, pods, ready, rolled_out, running_pod
from e2e.cluster.shell import kubectl

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
