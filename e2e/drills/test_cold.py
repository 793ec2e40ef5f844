"""Everything ends at once and starts again, with a Postgres for the state: agents, sidecars, Redis, the Postgres itself."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmemory_operator.drill.conversation import RULES
from e2e.cluster.agents import apply, pods, ready, rolled_out
from e2e.cluster.drill import command, refusals
from e2e.cluster.redis import managed
from e2e.cluster.shell import kubectl, kubectl_json

REGION = "us-east-1"
NAME, POSTGRES = "cold", "postgres"
USER = 999


def postgres(namespace: str, password: str) -> list[dict[str, Any]]:
    """One of one's own, as a user may run it: a pod with a volume, its Service, and a Secret with where it is."""
    host = f"{POSTGRES}.{namespace}.svc"
    labels = {"app": POSTGRES}
    container = {
        "name": POSTGRES,
        "image": "postgres:17",
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": {"name": POSTGRES, "key": "password"}}}],
        "startupProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 2},
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    # Always, the default, would open the data directory to the group, and Postgres does not start on such a one again.
    user = {"runAsUser": USER, "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch"}
    template = {"metadata": {"labels": labels}, "spec": {"securityContext": user, "containers": [container]}}
    meta = {"name": POSTGRES, "namespace": namespace}
    dsn = f"postgresql://postgres:{password}@{host}:5432/postgres"
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"password": password, "dsn": dsn}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"clusterIP": "None", "selector": labels, "ports": [{"port": 5432}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": meta,
            "spec": {
                "replicas": 1,
                "serviceName": POSTGRES,
                "selector": {"matchLabels": labels},
                "template": template,
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
            },
        },
    ]


@pytest.fixture
async def memory() -> AsyncIterator[str]:
    """A resource on a managed Redis Cluster and that Postgres. Its namespace."""
    namespace = f"cold-{secrets.token_hex(3)}"
    await kubectl("create", "namespace", namespace)
    await apply(*postgres(namespace, secrets.token_hex(8)))
    await rolled_out(namespace, f"statefulset/{POSTGRES}")
    manifest = managed(namespace, NAME, [REGION], shards=3)
    spec = manifest["spec"]
    spec["state"] = spec["archive"] = {"postgres": {"dsnFrom": {"secretKeyRef": {"name": POSTGRES, "key": "dsn"}}}}
    spec["extraction"] = {"rules": RULES}
    await apply(manifest)
    await ready(namespace, NAME, timeout_s=300)
    yield namespace
    await kubectl("-n", namespace, "delete", "agentmemory", NAME, "--wait=false", check=False)
    await kubectl("delete", "namespace", namespace, "--wait=false")


async def uids(namespace: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in await pods(namespace, "")}


@pytest.mark.all
async def test_a_cold_start_of_everything_loses_nothing(memory: str) -> None:
    before, refused = await uids(memory), await refusals()
    assert len(before) == 7, "six of Redis, one of Postgres"
    report = await command("cold", memory, NAME, "--also", f"app={POSTGRES}", "--allow-privileged")
    assert report["passed"], report
    assert report["lost"] or report["refused"], "nobody noticed"
    assert not before & await uids(memory), "something was not ended"
    assert await refusals() == refused
    left = await kubectl_json("-n", memory, "get", "deployments")
    assert not left["items"]
    await ready(memory, NAME, timeout_s=240)
