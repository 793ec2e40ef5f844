"""What the operator makes in an account is what the sidecars' own adapter works with, configured as the operator does."""

from pathlib import Path

from agentmemory_operator.tiers.cosmosdb import CosmosDbTier
from agentmemory_sidecar.resource import LocalValues, compile_resource, parse
from agentmemory_sidecar.stores.opened import open_stores
from agentmemory_sidecar.stores.protocols import Stored, Versions
from tests.cosmos import CosmosAccount
from tests.operator.tiers.driving import Driver, manifest
from tests.operator.tiers.secrets import cluster
from tests.sidecar.stores.conformance.talks import create, fresh


async def test_container_of_the_operator_serves_a_sidecar(tmp_path: Path) -> None:
    async with CosmosAccount() as account, cluster({"azure": {"key": account.key}}) as kube:
        access = {"endpoint": account.url, "keyFrom": {"secretKeyRef": {"name": "azure", "key": "key"}}}
        cosmosdb = {**access, "database": "memory", "container": "states"}
        spec = {
            "state": {"cosmosdb": cosmosdb},
            "archive": {"postgres": {"dsn": "postgresql://nobody@127.0.0.1:1/none"}},
            "ephemeral": {"redis": {"external": {"urls": ["redis://127.0.0.1:1"]}}},
        }
        operator = Driver(lambda: CosmosDbTier(kube), manifest(spec))
        await operator.settle()
        assert operator.condition.status is True

        secret = tmp_path / "azure"
        secret.mkdir()
        (secret / "key").write_text(account.key)
        values = LocalValues(tmp_path, tmp_path)
        config = compile_resource(parse(manifest(spec)), "local", values=values, data_dir=tmp_path)
        assert account.key in config.dumps()
        stores = await open_stores(config)
        talk = fresh()
        await create(stores.state, talk, pending=True)
        assert await stores.state.read(talk) == Stored(Versions(1, 1), b"one", {})
        assert await stores.state.pending(talk.tenant) == [talk]
        await stores.close()
