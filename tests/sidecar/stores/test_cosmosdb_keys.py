"""CosmosDB as the shelf of sealing keys."""

from agentmemory_sidecar.stores.cosmosdb import CosmosStateStore
from agentmemory_sidecar.stores.protocols import KeyShelf, StateStore
from tests.sidecar.stores.conformance.backends import STATE
from tests.sidecar.stores.conformance.cosmos_backends import cosmosdb
from tests.sidecar.stores.conformance.keys import KeyConformance

STATE["cosmosdb"] = cosmosdb


class TestKeys(KeyConformance):
    backend = "cosmosdb"

    def shelf_of(self, state: StateStore) -> KeyShelf:
        assert isinstance(state, CosmosStateStore)
        return state.shelf
