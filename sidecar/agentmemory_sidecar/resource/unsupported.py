"""What a resource may declare but no code does yet. One row leaves this page with the work that makes it true."""

from collections.abc import Iterator

from agentmemory_sidecar.resource.agentmemory import AgentMemory, Spec
from agentmemory_sidecar.resource.base import at
from agentmemory_sidecar.resource.checks import Problem, per_region_models
from agentmemory_sidecar.resource.common import Tls

SCHEMA_NAME = "agentmemory"
"""The SQL schema of our tables."""


def unsupported(resource: AgentMemory, *, managed_redis: bool = False) -> list[Problem]:
    """The declared fields that are not built yet, each with what to use instead.

    ``managed_redis`` says that there is somebody who runs managed Redis Clusters: an operator.
    """
    found = [row for check in (_stores, _server_names) for row in check(resource.spec)]
    redis = resource.spec.ephemeral.redis
    if redis and redis.managed and not managed_redis:
        found.append(
            (("ephemeral", "redis", "managed"), "outside a cluster nobody runs it, so use embedded or external")
        )
    return [Problem(("spec", *path), f"is not supported yet: {instead}") for path, instead in found]


def _stores(spec: Spec) -> Iterator[tuple[tuple[str, ...], str]]:
    cosmos = spec.state.cosmosdb
    if cosmos and any(
        access.client_id or not access.key_from for access in (at(cosmos, each) for each in spec.regions)
    ):
        yield ("state", "cosmosdb", "clientId"), "give the account's key in keyFrom, and no workload identity"
    for tier, postgres in (("state", spec.state.postgres), ("archive", spec.archive.postgres)):
        if postgres and postgres.schema_name != SCHEMA_NAME:
            yield (tier, "postgres", "schemaName"), f"leave it out: the tables are in the schema {SCHEMA_NAME}"
    if spec.archive.keys.kms:
        yield ("archive", "keys", "kms"), "use local, and keep the folder's disk encrypted"
    if spec.archive.retention.records or spec.archive.retention.blobs:
        yield ("archive", "retention"), "leave it out, and the archive keeps everything"


def _server_names(spec: Spec) -> Iterator[tuple[tuple[str, ...], str]]:
    """Only the HTTP client of the upstream takes a name to verify beside the host to connect to."""
    for path, access in per_region_models(spec):
        for entry in (access, *getattr(access, "per_region", ())):
            tls: Tls | None = getattr(entry, "tls", None)
            if tls and tls.server_name:
                yield (*map(str, path), "tls", "serverName"), "connect to a host name that the certificate carries"
                break
