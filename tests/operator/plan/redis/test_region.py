"""What one region needs."""

import dataclasses

from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.redis.region import MarkFormed, Seen, plan_leaving, plan_region
from agentmemory_operator.plan.redis.secrets import IssueCertificate, MakeKeys
from agentmemory_operator.plan.redis.values import Cluster, Failover, LoadCertificate, LoadUsers
from agentmemory_operator.plan.values import Apply, Remove
from tests.operator.plan.redis.sample import NOW, change, live, place, seen


def test_an_idle_region_does_nothing() -> None:
    where = place()
    outcome = plan_region(where, seen(where))
    assert outcome.actions == ()
    assert outcome.drift == ()
    assert outcome.decision.reason is Reason.READY
    assert outcome.ready
    assert outcome.note == "redis 3/3 shards, 1 replica each"


def test_a_new_region_is_made_step_by_step() -> None:
    where = place()
    nothing = Seen(Cluster(where.region, where.namespace, (), 6), now=NOW)
    (first,) = plan_region(where, nothing).actions
    assert isinstance(first, MakeKeys)
    (second,) = plan_region(where, dataclasses.replace(nothing, keys=seen(where).keys)).actions
    assert isinstance(second, IssueCertificate)
    full = seen(where)
    ready = dataclasses.replace(nothing, keys=full.keys, node_secret=full.node_secret, leaf=full.leaf)
    outcome = plan_region(where, ready)
    kinds = [action.manifest["kind"] for action in outcome.actions if isinstance(action, Apply)]
    assert kinds == ["ConfigMap", "Service", *["PodDisruptionBudget", "StatefulSet"] * 3]
    assert outcome.provides is None
    assert outcome.young


def test_sidecars_are_told_once_it_has_served_and_from_then_on() -> None:
    where = place()
    young = dataclasses.replace(seen(where), formed=False)
    outcome = plan_region(where, young)
    assert any(isinstance(action, MarkFormed) for action in outcome.actions)
    away = dataclasses.replace(seen(where), cluster=Cluster(where.region, where.namespace, (), 6))
    outcome = plan_region(where, away)
    assert not outcome.ready
    assert outcome.provides is not None
    redis = outcome.provides.managed_redis
    assert redis is not None
    assert redis.urls[:2] == (
        "rediss://support-redis-us-east-1.agents.svc:6379",
        "rediss://support-redis-us-east-1-0-0.support-redis-us-east-1.agents.svc:6379",
    )
    assert (redis.cluster, redis.username) == (True, "sidecar")
    assert redis.tls is not None
    assert "BEGIN CERTIFICATE" in redis.tls.ca_pem
    assert "PRIVATE" not in redis.tls.ca_pem


def test_a_new_password_is_told_once_every_node_takes_it() -> None:
    where = place()
    before = seen(where)
    assert before.keys is not None
    data = {**before.keys.data, "sidecar": "new", "sidecar-previous": "old", "rotated-at": str(int(NOW))}
    rotated = dataclasses.replace(before, keys=dataclasses.replace(before.keys, data=data))
    outcome = plan_region(where, rotated)
    assert sum(isinstance(action, LoadUsers) for action in outcome.actions) == 6
    assert outcome.provides is not None
    assert outcome.provides.managed_redis is not None
    assert outcome.provides.managed_redis.password.get_secret_value() == "old"


def test_a_node_with_another_certificate_is_told_to_load_it() -> None:
    where = place()
    have = seen(where)
    name = f"{where.stateful_set(1)}-0"
    outcome = plan_region(
        where, dataclasses.replace(have, cluster=change(have.cluster, name, node={"certificate": "1f"}))
    )
    assert outcome.actions == (LoadCertificate("us-east-1", name),)


def test_what_somebody_changed_is_repaired_and_told() -> None:
    where = place()
    have = seen(where)
    spec = {**have.sets[1]["spec"], "replicas": 1}
    outcome = plan_region(where, dataclasses.replace(have, sets={**have.sets, 1: {**have.sets[1], "spec": spec}}))
    assert outcome.drift == ("StatefulSet support-redis-us-east-1-1: /spec/replicas",)
    (action,) = outcome.actions
    assert isinstance(action, Apply)
    assert action.manifest["spec"]["replicas"] == 2
    # Our own change of mind is no drift.
    outcome = plan_region(place(image="valkey/valkey:8"), have)
    assert outcome.drift == ()
    assert outcome.actions != ()


def test_replicas_go_only_when_no_primary_goes_with_them() -> None:
    two, one = place(replicas=1), place(replicas=0)
    have = seen(two)
    outcome = plan_region(one, have)
    counts = [a.manifest["spec"]["replicas"] for a in outcome.actions if isinstance(a, Apply)]
    assert counts == [1, 1, 1]
    # Shard 0 is led by its second pod: that one steps down first, and stays until then.
    names = [f"{two.stateful_set(0)}-{ordinal}" for ordinal in (0, 1)]
    swapped = have.cluster
    first, second = (next(p for p in have.cluster.pods if p.name == name) for name in names)
    swapped = change(change(swapped, names[0], node={"id": "s0"}), names[1], node={"id": "p0"})
    swapped = change(change(swapped, names[0], address=second.address), names[1], address=first.address)
    outcome = plan_region(one, dataclasses.replace(have, cluster=swapped))
    changed = [a.manifest["metadata"]["name"] for a in outcome.actions if isinstance(a, Apply)]
    assert changed == [two.stateful_set(1), two.stateful_set(2)]
    assert [a.pod for a in outcome.actions if isinstance(a, Failover)] == [names[0]]


def test_a_shard_that_owns_nothing_goes_and_its_volumes_stay() -> None:
    where = place()
    have = seen(where)
    surplus = live(where.shard_set(3, 2, None))
    outcome = plan_region(where, dataclasses.replace(have, sets={**have.sets, 3: surplus}))
    removed = [action for action in outcome.actions if isinstance(action, Remove)]
    assert [(action.kind, action.uid) for action in removed] == [("StatefulSet", "uid-support-redis-us-east-1-3")]


def test_volumes_grow_and_never_shrink() -> None:
    def claim(size: str) -> dict[str, object]:
        return {
            "metadata": {"name": f"data-{size}", "namespace": "agents", "uid": "u"},
            "spec": {"resources": {"requests": {"storage": size}}},
        }

    where = place(storage={"size": "2Gi"})
    have = dataclasses.replace(seen(where), claims=(claim("1Gi"), claim("2048Mi"), claim("4Gi")))
    grown = [a.manifest["metadata"]["name"] for a in plan_region(where, have).actions if isinstance(a, Apply)]
    assert grown == ["data-1Gi"]


def test_what_goes_with_the_resource() -> None:
    rows = tuple(
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x", "namespace": "agents", "uid": kind}}
        for kind in ("StatefulSet", "Service", "Secret", "PersistentVolumeClaim", "Pod")
    )
    assert [action.kind for action in plan_leaving(rows, delete=False)] == ["StatefulSet", "Service"]  # type: ignore[attr-defined]
    everything = [action.kind for action in plan_leaving(rows, delete=True)]  # type: ignore[attr-defined]
    assert everything == ["StatefulSet", "Service", "Secret", "PersistentVolumeClaim"]
