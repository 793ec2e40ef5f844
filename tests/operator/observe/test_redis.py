"""What the texts of a server and of Kubernetes become."""

from agentmemory_operator.observe.redis import node_of, peer_of, pod_of
from tests.operator.plan.redis.sample import place

ME, OTHER = "a" * 40, "b" * 40
NODES = f"""\
{ME} 10.244.1.7:6379@16379,r-0-0.r.agents.svc myself,master - 0 0 3 connected 0-5 9 [10->-{OTHER}] [11-<-{OTHER}]
{OTHER} :0@0 master,fail,noaddr - 1 1 2 disconnected 6-8 10922
{"c" * 40} fd00::7:6379@16379,r-0-1.r.agents.svc,shard-id=x slave {ME} 0 1795368088965 3 connected
"""


def test_a_primary() -> None:
    info = {"role": "master", "master_repl_offset": "70", "used_memory": "900", "db0": "keys=12,expires=3,avg_ttl=1"}
    node = node_of(ME, NODES, {"cluster_state": "ok"}, info, "stamp", "1f")
    assert node.is_primary
    assert sorted(node.slots) == [0, 1, 2, 3, 4, 5, 9]
    assert (node.migrating, node.importing) == ({10: OTHER}, {11: OTHER})
    assert (node.keys, node.offset, node.memory, node.link_up, node.cluster_ok) == (12, 70, 900, True, True)
    lost = node.peers[OTHER]
    assert (lost.address, lost.hostname, lost.failing, lost.connected) == ("", "", True, False)
    assert lost.ranges == ((6, 8), (10922, 10922))
    replica = node.peers["c" * 40]
    assert (replica.address, replica.hostname, replica.primary) == ("fd00::7", "r-0-1.r.agents.svc", ME)


def test_a_replica_that_is_behind() -> None:
    info = {
        "role": "slave", "master_link_status": "down", "master_sync_in_progress": "1", "slave_repl_offset": "5",
        "master_repl_offset": "9",
    }  # fmt: skip
    node = node_of(ME, NODES.replace("myself,master -", f"myself,slave {OTHER}"), {}, info, "", "")
    assert not node.is_primary
    assert (node.link_up, node.syncing, node.offset, node.cluster_ok) == (False, True, 5, False)
    assert node.me.primary == OTHER
    assert node.durable
    node = node_of(ME, NODES.replace("myself,master -", f"myself,slave {OTHER}"), {}, info | REWRITING, "", "")
    assert not node.durable


REWRITING = {"aof_rewrite_in_progress": "1"}


def test_versions_before_hostnames() -> None:
    assert peer_of(f"{ME} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected".split()).address == "10.0.0.1"


def test_a_pod_as_kubernetes_tells_of_it() -> None:
    where = place()
    template = where.template(1)["metadata"]
    row = {
        "metadata": {"name": "support-redis-us-east-1-1-0", "uid": "u", **template},
        "status": {"podIP": "10.0.0.9", "containerStatuses": [{"state": {"running": {}}}]},
    }
    pod = pod_of(row, where)
    assert pod is not None
    assert (pod.shard, pod.ordinal, pod.address, pod.outdated, pod.leaving, pod.trouble) == (
        1, 0, "10.0.0.9", False, False, "",
    )  # fmt: skip
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    row = {
        "metadata": {**row["metadata"], "annotations": {}, "deletionTimestamp": "now"},
        "status": {"podIP": "10.0.0.9", "containerStatuses": [{"state": waiting}]},
    }
    pod = pod_of(row, where)
    assert pod is not None
    assert (pod.address, pod.outdated, pod.leaving, pod.trouble) == ("", True, True, "ErrImagePull: no such image")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    pod = pod_of({"metadata": row["metadata"], "status": {"conditions": [condition]}}, where)
    assert pod is not None
    assert pod.trouble == "Unschedulable: 0/3 nodes"
