"""A real API server for the tests marked ``cluster``: the one that AGENTMEMORY_KUBE_CONTEXT names."""

import os
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from agentmemory_operator.kube import NAMESPACE, Cluster
from tests.operator.cluster import definition, kubectl

__all__ = ["definition", "kubectl"]

CONTEXT = os.environ.get("AGENTMEMORY_KUBE_CONTEXT", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="needs a cluster: name its kubeconfig context in AGENTMEMORY_KUBE_CONTEXT")
    for item in items:
        if item.get_closest_marker("cluster") and not CONTEXT:
            item.add_marker(skip)


@pytest.fixture
async def kube() -> AsyncIterator[Cluster]:
    cluster = Cluster.connect(CONTEXT)
    yield cluster
    await cluster.close()


@pytest.fixture
async def namespace(kube: Cluster) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid4().hex[:10]}"
    await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await kube.delete(NAMESPACE, "", name)
