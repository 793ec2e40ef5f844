"""The uninstall's steps on a real API server, with a Deployment of ours in the operator's place."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmemory_operator.kube import AGENTMEMORY, DEPLOYMENT, MUTATING_WEBHOOKS, POD, Cluster
from agentmemory_operator.names import FINALIZER
from agentmemory_operator.settings import Settings, WebhookSettings
from agentmemory_operator.uninstall import ANNOTATION, Installed, Refused, uninstall
from tests.operator.cluster import agentmemory

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("definition")]


@pytest.fixture
async def installed(kube: Cluster, namespace: str) -> AsyncIterator[Installed]:
    """A webhook configuration, an operator whose pod can be on no node, and a resource with two finalizers."""
    entry = {
        "name": "pod.inject.agentmemory.io",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "objectSelector": {"matchLabels": {"no": "pod"}},
        "clientConfig": {"service": {"name": "nobody", "namespace": namespace}},
    }
    await kube.create(
        {
            "apiVersion": MUTATING_WEBHOOKS.api_version,
            "kind": MUTATING_WEBHOOKS.kind,
            "metadata": {"name": namespace},
            "webhooks": [entry],
        }
    )
    template: dict[str, Any] = {
        "metadata": {"labels": {"app": "operator"}},
        "spec": {"nodeSelector": {"there": "is-none"}, "containers": [{"name": "a", "image": "a"}]},
    }
    await kube.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "operator", "namespace": namespace},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "operator"}}, "template": template},
        }
    )
    resource = agentmemory({})
    resource["metadata"] |= {"namespace": namespace, "finalizers": ["tests.example/other", FINALIZER]}
    await kube.create(resource)
    webhook = WebhookSettings(configuration=namespace)
    yield Installed(Settings(operator_namespace=namespace, namespaces=(namespace,), webhook=webhook), "operator")
    await kube.delete(MUTATING_WEBHOOKS, "", namespace)
    await _gone(kube, namespace)


async def test_it_refuses_and_changes_nothing_while_there_are_resources(kube: Cluster, installed: Installed) -> None:
    namespace = installed.settings.operator_namespace
    with pytest.raises(Refused, match=f"{namespace}/test"):
        await uninstall(kube, installed, force=False, timeout_s=1)
    assert await kube.get(MUTATING_WEBHOOKS, "", namespace)
    deployment = await kube.get(DEPLOYMENT, namespace, "operator")
    assert deployment
    assert deployment["spec"]["replicas"] == 2


async def test_told_it_lets_go_and_can_be_told_twice(kube: Cluster, installed: Installed) -> None:
    namespace, lines = installed.settings.operator_namespace, list[str]()
    await kube.patch(DEPLOYMENT, namespace, "operator", {"metadata": {"annotations": {ANNOTATION: "force"}}})
    for _ in range(2):
        await uninstall(kube, installed, force=False, timeout_s=60, say=lines.append)
        assert await kube.get(MUTATING_WEBHOOKS, "", namespace) is None
        assert await kube.list(POD, namespace) == []
        resource = await kube.get(AGENTMEMORY, namespace, "test")
        assert resource
        assert resource["metadata"]["finalizers"] == ["tests.example/other"]
    assert [line.split()[1] for line in lines[:2]] == ["webhook", "operator"]


async def test_without_resources_there_is_nothing_to_stop(kube: Cluster, installed: Installed) -> None:
    namespace = installed.settings.operator_namespace
    await _gone(kube, namespace)
    await uninstall(kube, installed, force=False, timeout_s=1)
    assert await kube.get(MUTATING_WEBHOOKS, "", namespace) is None
    deployment = await kube.get(DEPLOYMENT, namespace, "operator")
    assert deployment
    assert deployment["spec"]["replicas"] == 2


async def _gone(kube: Cluster, namespace: str) -> None:
    """The resource goes, which would keep the test's namespace."""
    if await kube.get(AGENTMEMORY, namespace, "test"):
        await kube.patch(AGENTMEMORY, namespace, "test", {"metadata": {"finalizers": None}})
        await kube.delete(AGENTMEMORY, namespace, "test")
    assert await kube.list(AGENTMEMORY, namespace) == []
