"""The objects of a managed Redis."""

from typing import Any

from agentmemory_operator.plan.redis.manifests import TEMPLATE, files, max_memory
from agentmemory_operator.settings import Settings
from tests.operator.plan.redis.sample import place


def pod(**managed: Any) -> dict[str, Any]:
    found: dict[str, Any] = place(**managed).template(0)["spec"]
    return found


def test_a_new_operator_rolls_no_pod_by_accident() -> None:
    """If this fails, every managed Redis pod of every user is made anew on the next upgrade. If that is meant, say so in
    the changelog and put the new hash here."""
    settings = Settings.model_validate({"images": {"redis": "redis:8"}})
    assert place(settings=settings).template(0)["metadata"]["annotations"][TEMPLATE] == "eb4947d86f8e05cf"


def test_what_a_pod_runs_with_changes_the_templates_hash_and_what_is_outside_does_not() -> None:
    def hashed(**managed: Any) -> str:
        return str(place(**managed).template(0)["metadata"]["annotations"][TEMPLATE])

    assert hashed(image="valkey/valkey:8") != hashed()
    assert hashed(resources={"limits": {"memory": "1Gi"}}) != hashed()
    assert hashed(shards=5, replicas=2, storage={"size": "9Gi"}) == hashed()


def test_pods_may_run_in_a_restricted_namespace() -> None:
    spec = pod()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["command"] == ["/bin/sh", "/etc/agentmemory/redis/start.sh"]
    assert not spec["automountServiceAccountToken"]


def test_pods_run_in_their_region_where_nodes_are_labelled() -> None:
    assert pod()["nodeSelector"] == {"topology.kubernetes.io/region": "us-east-1"}
    assert "nodeSelector" not in place(labelled=False).template(0)["spec"]
    assert pod(nodeSelector={"disk": "fast"})["nodeSelector"]["disk"] == "fast"


def test_a_shards_pods_keep_apart_and_are_not_injected() -> None:
    template = place().template(1)
    assert template["metadata"]["labels"]["agentmemory.io/inject"] == "false"
    terms = template["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [term["podAffinityTerm"]["topologyKey"] for term in terms] == [
        "kubernetes.io/hostname", "topology.kubernetes.io/zone", "kubernetes.io/hostname"
    ]  # fmt: skip
    assert terms[0]["podAffinityTerm"]["labelSelector"]["matchLabels"]["agentmemory.io/shard"] == "1"


def test_a_set_keeps_its_claim_template_and_nothing_deletes_volumes() -> None:
    before = place(storage={"size": "1Gi"}).shard_set(0, 2, None)
    after = place(storage={"size": "8Gi"}).shard_set(0, 2, before)
    assert after["spec"]["volumeClaimTemplates"] == before["spec"]["volumeClaimTemplates"]
    assert after["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert after["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert "ownerReferences" not in after["metadata"]


def test_a_region_may_differ() -> None:
    where = place(resources={"limits": {"memory": "1Gi"}}, perRegion=[{"region": "us-east-1", "shards": 7}])
    assert where.redis.shards == 7
    assert where.resources.limits == {"memory": "1Gi"}


def test_data_takes_a_share_of_the_memory_limit() -> None:
    assert max_memory({"memory": "1Gi"}) == 751619276
    assert max_memory({}) == 0


def test_long_names_fit() -> None:
    where = place()
    long = place(region="a" * 60)
    assert where.stateful_set(0) == "support-redis-us-east-1-0"
    assert len(long.stateful_set(0)) <= 52
    assert long.stateful_set(0) != long.stateful_set(1)
    assert len(long.service) <= 63


def test_nothing_in_the_configuration_is_secret_or_empties_a_node() -> None:
    text = "\n".join(files().values()).lower()
    for word in ("flushall", "flushdb", "cluster reset", "requirepass"):
        assert word not in text
    assert "maxmemory-policy noeviction" in text
    assert "port 0" in text
