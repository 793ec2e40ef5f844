"""The external Redis tier against real servers."""

from typing import Any
from urllib.parse import urlsplit

from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.values import Condition
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers import Subject
from agentmemory_operator.tiers.external_redis import ExternalRedisTier
from agentmemory_sidecar.resource import parse
from tests.operator.tiers.secrets import Secrets, cluster
from tests.sidecar.stores.hot_servers import DebianRedis, ValkeyCluster


async def look(external: dict[str, Any], secrets: Secrets | None = None) -> Condition:
    manifest = {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": "support", "namespace": "agents"},
        "spec": {
            "ephemeral": {"redis": {"external": external}},
            "session": {"identity": {"headers": ["X-Agent-Session"]}},
        },
    }
    resource = parse(manifest, source="test")
    async with cluster(secrets or {}) as kube:
        tier = ExternalRedisTier(kube)
        subject = Subject(resource, manifest, Settings(), resource.spec.regions)
        assert tier.concerns(subject)
        (condition,) = (await tier.look(subject)).conditions
    return condition


def from_secret(key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": "redis", "key": key}}


async def test_tls_and_a_user_of_its_own(debian_redis: DebianRedis) -> None:
    folder = debian_redis.certificates
    secrets = {
        "redis": {
            "password": "first",
            "wrong": "second",
            "ca": (folder / "ca.pem").read_text(),
            "certificate": (folder / "client.pem").read_text(),
            "key": (folder / "client.key").read_text(),
        }
    }
    external: dict[str, Any] = {
        "urls": [f"rediss://127.0.0.1:{debian_redis.port}"],
        "username": "sidecar",
        "passwordFrom": from_secret("password"),
        "tls": {
            "caFrom": from_secret("ca"), "certificateFrom": from_secret("certificate"), "keyFrom": from_secret("key")
        },
    }  # fmt: skip
    condition = await look(external, secrets)
    assert (condition.status, condition.reason) == (True, Reason.EXTERNAL), condition.message

    condition = await look(external | {"passwordFrom": from_secret("wrong")}, secrets)
    assert (condition.status, condition.reason) == (False, Reason.ACCESS_DENIED)
    assert "second" not in condition.message

    condition = await look(external | {"passwordFrom": from_secret("absent")}, secrets)
    assert condition.reason is Reason.SECRET_MISSING
    assert "absent" in condition.message

    condition = await look(external | {"username": "short", "passwordFrom": from_secret("password")}, secrets)
    assert condition.reason is Reason.ACCESS_DENIED
    assert "NOPERM" in condition.message or "no permissions" in condition.message

    condition = await look(external | {"tls": {"caFrom": from_secret("certificate")}}, secrets)
    assert condition.reason in (Reason.UNREACHABLE, Reason.SECRET_MISSING)


async def test_a_cluster_and_one_that_is_not(valkey_cluster: ValkeyCluster) -> None:
    url = urlsplit(valkey_cluster.nodes[0].url)
    external = {"urls": [f"redis://127.0.0.1:{url.port}"], "password": url.password, "cluster": True}
    condition = await look(external)
    assert (condition.status, condition.reason) == (True, Reason.EXTERNAL), condition.message
    condition = await look(external | {"cluster": False})
    assert condition.reason is Reason.INVALID_SPEC


async def test_nobody_there() -> None:
    condition = await look({"urls": ["redis://127.0.0.1:1"]})
    assert (condition.status, condition.reason) == (False, Reason.UNREACHABLE)
    assert "redis://127.0.0.1:1" in condition.message
