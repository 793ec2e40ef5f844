from pathlib import Path

import pytest

from agentmemory_sidecar.resource import LocalValues, NotSupportedYet, compile_resource, unsupported
from agentmemory_sidecar.resource.yamltext import dotted
from tests.sidecar.resource.resources import resource

ROWS = [
    ("ephemeral: {redis: {managed: {}}}", "spec.ephemeral.redis.managed", "so use embedded or external"),
    (
        "state: {cosmosdb: {database: a, container: b, endpoint: 'https://h'}}",
        "spec.state.cosmosdb.clientId",
        "give the account's key in keyFrom",
    ),
    ("archive: {keys: {kms: {keyArn: 'arn:a'}}}", "spec.archive.keys.kms", "use local"),
    ("archive: {retention: {records: 365d}}", "spec.archive.retention", "leave it out"),
    ("state: {postgres: {dsn: 'postgresql://h/d', schemaName: other}}", "spec.state.postgres.schemaName", "leave it"),
    ("archive: {postgres: {dsn: 'postgresql://h/d', schemaName: a}}", "spec.archive.postgres.schemaName", "leave it"),
    (
        "ephemeral: {redis: {external: {urls: ['rediss://h'], tls: {serverName: a}}}}",
        "spec.ephemeral.redis.external.tls.serverName",
        "connect to a host name that the certificate carries",
    ),
    (
        "state: {postgres: {dsn: 'postgresql://h/d', perRegion: [{region: local, tls: {serverName: a}}]}}",
        "spec.state.postgres.tls.serverName",
        "connect to a host name",
    ),
    ("state: {dynamodb: {table: abc, tls: {serverName: a}}}", "spec.state.dynamodb.tls.serverName", "connect to a"),
    ("archive: {s3: {bucketPrefix: abc, tls: {serverName: a}}}", "spec.archive.s3.tls.serverName", "connect to a"),
]


@pytest.mark.parametrize(("spec", "path", "instead"), ROWS, ids=[spec for spec, _, _ in ROWS])
def test_what_is_not_built_names_the_field_and_what_to_use(spec: str, path: str, instead: str) -> None:
    (problem,) = unsupported(resource(spec))
    assert dotted(problem.path) == path
    assert problem.message.startswith("is not supported yet: ")
    assert instead in problem.message
    with pytest.raises(NotSupportedYet, match=rf"test.yaml:\d+: {path}: is not supported yet: "):
        compile_resource(resource(spec), "local", values=LocalValues(Path()), data_dir=Path())


def test_a_cluster_runs_what_a_laptop_cannot() -> None:
    assert unsupported(resource("ephemeral: {redis: {managed: {}}}"), managed_redis=True) == []


def test_what_is_built_is_not_on_the_list() -> None:
    spec = """
state: {dynamodb: {table: abc}, onUnavailable: PassThrough}
archive: {s3: {bucketPrefix: abc}}
upstream: {tls: {serverName: claude.example}}
injection: {role: System}
filter: {strategy: Hybrid, embeddings: {model: /models/minilm}}
session: {lock: {onConflict: Wait, scope: Turn}}
onDisconnect: Complete
extraction: {subAgent: {apiKeyFrom: {env: K}, writes: [/active_mission/goal]}}
"""
    assert unsupported(resource(spec)) == []
