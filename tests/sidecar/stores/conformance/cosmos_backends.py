"""CosmosDB on the strict account, behind a fault proxy, as a conformance backend."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentmemory_sidecar.layout.cosmosdb import container_definition
from agentmemory_sidecar.stores.cosmosdb import CosmosStateStore
from agentmemory_sidecar.stores.cosmosdb_account import CosmosOptions
from agentmemory_sidecar.stores.protocols import StateStore
from tests.cosmos import CosmosAccount
from tests.faults import FaultProxy
from tests.sidecar.stores.conformance.aws_backends import AwsBackend as OneProxy
from tests.sidecar.stores.conformance.backends import Backend

DATABASE, CONTAINER = "memory", "states"


def with_container(account: CosmosAccount) -> CosmosAccount:
    """The same with an empty container of ours."""
    account.create(DATABASE, CONTAINER, container_definition())
    return account


def options(url: str, account: CosmosAccount, **more: object) -> CosmosOptions:
    """For a store that reaches the account at this URL."""
    given: dict[str, object] = {"deadline_s": 20.0, "read_timeout_s": 10.0, **more}
    container = str(given.pop("container", CONTAINER))
    return CosmosOptions(url, account.key, DATABASE, container, **given)  # type: ignore[arg-type]


@asynccontextmanager
async def cosmosdb(request: pytest.FixtureRequest) -> AsyncIterator[Backend[StateStore]]:
    """An account of its own, whose replicas are behind for all that ask them without a token."""
    async with CosmosAccount() as account:
        with_container(account).faults.behind = 1_000_000
        (place,) = account.places.values()
        async with FaultProxy(("127.0.0.1", place.port)) as proxy:
            place.url = f"http://{proxy.host}:{proxy.port}/"
            backend = OneProxy[StateStore](proxy, lambda: CosmosStateStore(options(place.url, account)))
            yield backend
            for store in backend.stores:
                await store.close()
