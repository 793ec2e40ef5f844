"""The webhook: what happens to pods while it is away, and when it is back."""

from e2e.cluster.agents import apply, container, deployment, pods, rolled_out
from e2e.cluster.install import SYSTEM
from e2e.cluster.shell import kubectl

INJECT = {"agentmemory.io/inject": "true"}


def pod(namespace: str, name: str, labels: dict[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container("sleep", "infinity")]},
    }


async def test_while_it_is_away_only_labelled_pods_wait_and_they_start_by_themselves_later(namespace: str) -> None:
    await kubectl("-n", SYSTEM, "scale", "deployment", "agentmemory-webhook", "--replicas=0")
    await kubectl(
        "-n", SYSTEM, "wait", "--for=delete", "pod", "-l", "agentmemory.io/component=webhook", "--timeout=90s"
    )
    try:
        await apply(pod(namespace, "plain", {}))
        refused = await kubectl("-n", namespace, "run", "asked", "--image=agentmemory-drill:e2e",
                                "--labels=agentmemory.io/inject=true", check=False)  # fmt: skip
        assert refused.code != 0
        assert "agentmemory" in refused.err
        assert "webhook" in refused.err
        labelled = deployment(namespace)
        labelled["spec"]["template"]["metadata"]["labels"] |= INJECT
        await apply(labelled)
    finally:
        await kubectl("-n", SYSTEM, "scale", "deployment", "agentmemory-webhook", "--replicas=2")
        await rolled_out(SYSTEM, "deployment/agentmemory-webhook")
    await kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/plain", "--timeout=60s")
    await kubectl("-n", namespace, "wait", "--for=condition=Available", "deployment/agent", "--timeout=90s")
    (found,) = await pods(namespace, "app=agent")
    assert [row["name"] for row in found["spec"]["initContainers"]] == ["agentmemory"]
