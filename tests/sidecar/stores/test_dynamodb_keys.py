"""DynamoDB as the shelf of sealing keys."""

from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.protocols import KeyShelf, StateStore
from tests.sidecar.stores.conformance.aws_backends import dynamodb
from tests.sidecar.stores.conformance.backends import STATE
from tests.sidecar.stores.conformance.keys import KeyConformance

STATE["dynamodb"] = dynamodb


class TestKeys(KeyConformance):
    backend = "dynamodb"

    def shelf_of(self, state: StateStore) -> KeyShelf:
        assert isinstance(state, DynamoStateStore)
        return state.shelf
