"""State tiers that are written in two regions, for tests of sidecars in both.

Writes are in the other region at once; lag, partitions and lost regions are in tests/histories.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from agentmemory_sidecar.resource import SidecarConfig
from agentmemory_sidecar.resource.store_config import CosmosDbState, DynamoDbState, RegionAws, RegionCosmos
from agentmemory_sidecar.stores.aws import AwsOptions
from agentmemory_sidecar.stores.cosmosdb import CosmosStateStore
from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.protocols import StateStore
from tests.cosmos import CosmosAccount
from tests.faults import FaultProxy
from tests.ministack import Ministack
from tests.sidecar.stand import Json
from tests.sidecar.stores.conformance.aws_backends import new_table
from tests.sidecar.stores.conformance.cosmos_backends import CONTAINER, DATABASE, options, with_container

EAST, WEST = "us-east-1", "us-west-2"


class Regional(Protocol):
    """A tier in two regions. ``proxy`` is before the east's endpoint."""

    proxy: FaultProxy

    @property
    def spec(self) -> Json:
        """What the resource says below ``state``, for regions ``EAST`` and ``WEST``."""
        ...

    def complete(self, config: SidecarConfig) -> SidecarConfig:
        """A configuration of the east with what no resource says."""
        ...

    def empty(self) -> StateStore:
        """The west's head where nothing has come to."""
        ...


@dataclass
class GlobalTable:
    """One DynamoDB table behind both endpoints: what is apart is who writes which head."""

    ministack: Ministack
    proxy: FaultProxy
    table: str

    @property
    def spec(self) -> Json:
        return {"dynamodb": {"table": self.table, "endpoint": f"http://{self.proxy.host}:{self.proxy.port}"}}

    def complete(self, config: SidecarConfig) -> SidecarConfig:
        assert isinstance(config.state, DynamoDbState)
        (other,) = config.state.elsewhere
        assert (other.region, other.aws.region) == (WEST, WEST)
        aws = config.state.aws.model_copy(update={"endpoint": self.ministack.url})
        state = config.state.model_copy(update={"elsewhere": (RegionAws(region=WEST, aws=aws),)})
        return config.model_copy(update={"state": state})

    def empty(self) -> StateStore:
        aws = AwsOptions(region=EAST, endpoint_url=self.ministack.url)
        return DynamoStateStore(aws, new_table(self.ministack), head=WEST)


@dataclass
class MultiWriteAccount:
    """A CosmosDB account that takes writes in both regions."""

    account: CosmosAccount
    proxy: FaultProxy
    key: Path

    @property
    def spec(self) -> Json:
        east, west = self.account.places.values()
        entries = [
            {"region": EAST, "endpoint": east.url, "preferredLocations": [east.name]},
            {"region": WEST, "endpoint": west.url, "preferredLocations": [west.name]},
        ]
        access = {"keyFrom": {"file": str(self.key)}, "database": DATABASE, "container": CONTAINER}
        return {"cosmosdb": {**access, "multiRegionWrites": True, "perRegion": entries}}

    def complete(self, config: SidecarConfig) -> SidecarConfig:
        assert isinstance(config.state, CosmosDbState)
        (other,) = config.state.elsewhere
        assert (other.region, other.access.locations) == (WEST, ("West US",))
        return config

    def empty(self) -> StateStore:
        west = self.account.places["West US"]
        self.account.create(DATABASE, "other", self.account.databases[DATABASE][CONTAINER])
        given = options(west.url, self.account, every_region_writes=True, locations=("West US",), container="other")
        return CosmosStateStore(given, head=WEST)


def in_the_west(config: SidecarConfig) -> SidecarConfig:
    """A configuration of the east as one of the west."""
    state = config.state
    if isinstance(state, CosmosDbState):
        (west,) = state.elsewhere
        turned = {"access": west.access, "elsewhere": (RegionCosmos(region=EAST, access=state.access),)}
        state = state.model_copy(update=turned)
    return config.model_copy(update={"region": WEST, "state": state})


@asynccontextmanager
async def regional(kind: str, request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[Regional]:
    """``dynamodb`` or ``cosmosdb``, with nothing in it."""
    if kind == "dynamodb":
        ministack: Ministack = request.getfixturevalue("ministack")
        async with FaultProxy((ministack.host, ministack.port)) as proxy:
            yield GlobalTable(ministack, proxy, new_table(ministack))
        return
    async with CosmosAccount("East US", "West US", every_region_writes=True) as account:
        with_container(account)
        key = directory / "cosmos.key"
        key.write_text(account.key)
        east = account.places["East US"]
        async with FaultProxy(("127.0.0.1", east.port)) as proxy:
            east.url = f"http://{proxy.host}:{proxy.port}/"
            yield MultiWriteAccount(account, proxy, key)
