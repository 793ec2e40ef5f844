from agentmemory_sidecar.resource.scopes import Scope
from agentmemory_sidecar.resource.state import Consistency, StaleReads, StateUnavailable
from tests.sidecar.resource.resources import resource


def test_a_dynamodb_table_in_full() -> None:
    state = resource("""
regions: [us-east-1, us-east-2, us-west-2]
state:
  dynamodb:
    table: support-state
    consistency: Strong
    pointInTimeRecovery: false
    deletionProtection: false
    tags: {team: support}
    endpoint: https://127.0.0.1:4566
    awsRegion: us-east-1
    roleArn: arn:aws:iam::1:role/sidecar
    operatorRoleArn: arn:aws:iam::1:role/operator
    kmsKeyArn: arn:aws:kms:us-east-1:1:key/k
    credentials: {accessKeyIdFrom: {env: ID}, secretAccessKeyFrom: {env: KEY}, sessionTokenFrom: {env: TOKEN}}
    tls: {caFrom: {file: ca.pem}}
    perRegion: [{region: us-east-2, awsRegion: us-east-2}, {region: us-west-2, awsRegion: us-west-2}]
  scope: Project
  onUnavailable: PassThrough
  staleReads: Serve
  ttl: 30d
""").spec.state
    assert state.dynamodb is not None
    assert state.dynamodb.consistency is Consistency.STRONG
    assert (state.scope, state.on_unavailable, state.stale_reads) == (
        Scope.PROJECT,
        StateUnavailable.PASS_THROUGH,
        StaleReads.SERVE,
    )
    assert state.ttl is not None
    assert state.ttl.seconds == 30 * 86400


def test_other_stores_in_full() -> None:
    cosmos = resource("""
state:
  cosmosdb:
    endpoint: https://acme.documents.azure.com:443/
    keyFrom: {secretKeyRef: {name: cosmos, key: key}}
    database: memory
    container: sessions
    multiRegionWrites: true
    maxThroughput: 4000
    perRegion: [{region: local, preferredLocations: [East US]}]
""").spec.state.cosmosdb
    assert cosmos is not None
    assert cosmos.per_region[0].preferred_locations == ("East US",)
    assert cosmos.multi_region_writes
    postgres = resource("""
state:
  postgres:
    clusterRef: {name: pg, database: memory}
    adminDsnFrom: {secretKeyRef: {name: pg-superuser, key: uri}}
""").spec.state.postgres
    assert postgres is not None
    assert postgres.schema_name == "agentmemory"


def test_a_schema_with_its_migrations() -> None:
    state = resource("""
state:
  schema:
    version: "3"
    definition: {type: object, properties: {plan: {type: string, pinned: true}}}
  migrations:
    - from: "2.1"
      to: "3"
      patch: [{op: move, from: /active_mission/goal, path: /plan}, {op: add, path: /n, value: null}]
      tests: [{before: {active_mission: {goal: x}}, after: {active_mission: {}, plan: x, n: null}}]
""").spec.state
    assert state.schema_ is not None
    assert state.schema_.definition["properties"]["plan"]["pinned"] is True
    (migration,) = state.migrations
    move, add = migration.patch
    assert (move.op, move.from_, move.path) == ("move", "/active_mission/goal", "/plan")
    assert "value" in add.model_fields_set
    assert "value" not in move.model_fields_set
