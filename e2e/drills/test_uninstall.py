"""Taking the installation away from under agents that run, and putting it back."""

import asyncio
import json
import secrets
from pathlib import Path

import pytest

from e2e.cluster.agents import apply, ask, deployment, memory, pods, ready, rolled_out, running_pod
from e2e.cluster.install import SYSTEM, install
from e2e.cluster.shell import helm, kubectl, kubectl_json
from e2e.cluster.wait import until
from e2e.cluster.writer import writing

QUICKSTART = Path("examples/quickstart.yaml")
INJECT = {"agentmemory.io/inject": "true"}
TOLD = "agentmemory.io/uninstall=force"
CONFIGURATION = "mutatingwebhookconfiguration/agentmemory"


async def serving() -> tuple[bool, int]:
    """Whether the API server asks our webhook, and how many of the webhook's pods are ready."""
    what = ("get", CONFIGURATION, "deployment/agentmemory-webhook", "--ignore-not-found", "-o", "json")
    found = json.loads((await kubectl("-n", SYSTEM, *what)).out or "{}")
    kinds = {item["kind"]: item for item in found.get("items", [found] if found else [])}
    status = kinds.get("Deployment", {}).get("status", {})
    return "MutatingWebhookConfiguration" in kinds, int(status.get("readyReplicas", 0))


async def kept(namespace: str) -> dict[str, str]:
    """What must be the same afterwards: kind and name to uid, and a pod's restarts."""
    found = await kubectl_json("-n", namespace, "get", "pods,statefulsets,persistentvolumeclaims,secrets,services")
    rows = {}
    for item in found["items"]:
        status = item.get("status") or {}
        states = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
        restarts = sum(row["restartCount"] for row in states)
        rows[f"{item['kind']}/{item['metadata']['name']}"] = f"{item['metadata']['uid']} {restarts}"
    return rows


@pytest.mark.all
async def test_agents_go_on_while_it_is_uninstalled_and_a_new_one_adopts_everything(namespace: str) -> None:
    leaving = f"leaving-{secrets.token_hex(3)}"
    await kubectl("create", "namespace", leaving)
    for where in (namespace, leaving):
        await kubectl("-n", where, "apply", "-f", "-", stdin=QUICKSTART.read_text())
    agent = deployment(namespace)
    agent["spec"]["template"]["metadata"]["labels"] |= INJECT
    await apply(agent)
    for where in (namespace, leaving):
        await ready(where, "quickstart", timeout_s=240)
    await rolled_out(namespace, "deployment/agent")
    before = await kept(namespace)

    refused = await helm("uninstall", "agentmemory", "-n", SYSTEM, "--timeout", "120s", check=False)
    assert refused.code != 0
    assert f"{namespace}/quickstart" in refused.out + refused.err
    assert await serving() == (True, 2)
    assert (await kubectl("-n", SYSTEM, "get", "deployment", "agentmemory-operator", "-o", "name")).out

    async with writing(namespace, retries=0) as writer:
        await writer.more(1)
        await kubectl("-n", SYSTEM, "annotate", "deployment", "agentmemory-operator", TOLD)
        seen, gone = list[tuple[bool, int]](), asyncio.Event()

        async def look() -> None:
            while not gone.is_set():
                seen.append(await serving())

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(look())
                try:
                    await helm("uninstall", "agentmemory", "-n", SYSTEM, "--wait", "--timeout", "180s")
                finally:
                    gone.set()
            assert (True, 2) in seen
            assert (True, 0) not in seen, "the API server asked a webhook that was gone"
            assert await serving() == (False, 0)

            found = await kubectl_json("-n", namespace, "get", "agentmemory", "quickstart")
            assert not found["metadata"].get("finalizers")
            await kubectl("delete", "namespace", leaving, "--timeout=120s", timeout_s=130)
            assert await kept(namespace) == before
            await writer.more(2)
        finally:
            await install()
        await ready(namespace, "quickstart", timeout_s=180)

        async def adopted() -> bool:
            found = await kubectl_json("-n", namespace, "get", "agentmemory", "quickstart")
            return bool(found["metadata"].get("finalizers")) and "Ready" in await memory(namespace, "quickstart")

        await until("the new installation to take the resource up", adopted, timeout_s=60)
        await writer.more(1)
        assert await kept(namespace) == before
    assert not writer.refused

    await kubectl("-n", namespace, "delete", "pod", await running_pod(namespace))
    await rolled_out(namespace, "deployment/agent")
    (found,) = await pods(namespace, "app=agent")
    assert [row["name"] for row in found["spec"]["initContainers"]] == ["agentmemory"]
    await writer.check()
    assert (await ask(namespace, "after", "Hello")).receipt
