"""A region of a resource, and what there is of it, for the tests of this folder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from agentmemory_operator.act.redis_keys import authority, issue
from agentmemory_operator.plan.redis.manifests import Place
from agentmemory_operator.plan.redis.pki import certificates
from agentmemory_operator.plan.redis.region import Seen
from agentmemory_operator.plan.redis.secrets import AUTHORITIES, Keys, derived
from agentmemory_operator.plan.redis.users import USERS, stamp
from agentmemory_operator.plan.redis.values import Cluster, Node, Pod
from agentmemory_operator.settings import Settings
from agentmemory_sidecar.resource import parse
from tests.operator.plan.redis.test_topology import three

NOW = 1_800_000_000.0


def place(region: str = "us-east-1", labelled: bool = True, settings: Settings | None = None, **managed: Any) -> Place:
    manifest = {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": "support", "namespace": "agents"},
        "spec": {
            "regions": [region, "us-west-2"],
            "ephemeral": {"redis": {"managed": managed}},
            "session": {"identity": {"headers": ["X-Agent-Session"]}},
        },
    }
    return Place(parse(manifest, source="test"), settings or Settings(), region, labelled)


def keys(now: float = NOW, data: Mapping[str, str] | None = None) -> Keys:
    found = {user: f"{user}-password" for user in USERS} | {AUTHORITIES: authority(now)} | dict(data or {})
    return Keys(found, certificates(found[AUTHORITIES]))


def seen(where: Place, now: float = NOW) -> Seen:
    """Everything in place and well, and nothing to do."""
    have = keys(now)
    certificate, key = issue(have.data[AUTHORITIES], have.signer(now).serial, where.hostnames, now)
    return Seen(
        cluster=whole(where, have),
        keys=have,
        node_secret=derived(have, now) | {"tls.crt": certificate, "tls.key": key},
        formed=True,
        leaf=certificates(certificate)[0],
        config_map=where.config_map(),
        service=where.headless_service(),
        sets={shard: live(where.shard_set(shard, where.redis.replicas + 1, None)) for shard in range(3)},
        budgets={shard: live(where.disruption_budget(shard)) for shard in range(3)},
        now=now,
    )


def live(manifest: dict[str, Any]) -> dict[str, Any]:
    """As the API server has it."""
    return {**manifest, "metadata": {**manifest["metadata"], "uid": f"uid-{manifest['metadata']['name']}"}}


def whole(where: Place, have: Keys) -> Cluster:
    peers = three()
    pods = []
    for ident, peer in peers.items():
        shard, ordinal = int(ident[1]), 0 if ident[0] == "p" else 1
        node = Node(ident, peers, users=stamp(have.users))
        pods.append(
            Pod(f"{where.stateful_set(shard)}-{ordinal}", shard, ordinal, f"u-{ident}", peer.address, node=node)
        )
    return Cluster(where.region, where.namespace, tuple(pods), 6)


def change(cluster: Cluster, pod: str, **changes: Any) -> Cluster:
    """The same with one pod changed; a key ``node`` of changes goes to its node."""
    of_node = changes.pop("node", {})
    pods = []
    for each in cluster.pods:
        if each.name == pod:
            if each.node is not None:
                changes["node"] = dataclasses.replace(each.node, **of_node)
            each = dataclasses.replace(each, **changes)
        pods.append(each)
    return dataclasses.replace(cluster, pods=tuple(pods))
