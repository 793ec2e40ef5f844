from agentmemory_sidecar.resource.base import at
from agentmemory_sidecar.resource.ephemeral import HotUnavailable
from tests.sidecar.resource.resources import resource


def test_a_managed_redis_in_full() -> None:
    ephemeral = resource("""
regions: [east, west]
ephemeral:
  redis:
    managed:
      shards: 5
      replicas: 2
      image: docker.io/valkey/valkey:9
      resources: {requests: {cpu: 250m, memory: 512Mi}, limits: {memory: 1Gi}}
      storage: {size: 8Gi, storageClassName: fast}
      nodeSelector: {disk: ssd}
      perRegion:
        - {region: west, shards: 3, resources: {requests: {cpu: 100m}}}
  onUnavailable: Refuse
""").spec.ephemeral
    assert ephemeral.on_unavailable is HotUnavailable.REFUSE
    assert ephemeral.redis is not None
    managed = ephemeral.redis.managed
    assert managed is not None
    east, west = at(managed, "east"), at(managed, "west")
    assert (east.shards, east.replicas) == (5, 2)
    assert (west.shards, west.replicas, west.image) == (3, 2, "docker.io/valkey/valkey:9")
    assert west.resources is not None
    assert west.resources.requests == {"cpu": "100m"}
    assert west.storage == east.storage


def test_an_external_redis_in_full() -> None:
    redis = resource("""
ephemeral:
  redis:
    external:
      urls: ["rediss://one:6379", "rediss://two:6379"]
      cluster: true
      username: memory
      passwordFrom: {secretKeyRef: {name: redis, key: password}}
      tls:
        caFrom: {secretKeyRef: {name: redis, key: ca.crt}}
        certificateFrom: {file: client.crt}
        keyFrom: {file: client.key}
        serverName: redis.example
""").spec.ephemeral.redis
    assert redis is not None
    assert redis.external is not None
    assert redis.external.tls is not None
    assert redis.external.tls.server_name == "redis.example"


def test_an_embedded_store_may_say_how_its_pod_looks() -> None:
    embedded = resource("ephemeral: {embedded: {storage: {size: 1Gi}}}").spec.ephemeral.embedded
    assert embedded is not None
    assert embedded.storage is not None
    assert embedded.storage.size == "1Gi"
