"""DynamoDB and S3 on ministack, behind a fault proxy, as conformance backends."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast
from uuid import uuid4

import pytest
from botocore.session import Session

from agentmemory_sidecar.layout.dynamodb import table_definition
from agentmemory_sidecar.stores.aws import AwsOptions
from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.dynamodb_table import create_table
from agentmemory_sidecar.stores.protocols import ObjectStore, StateStore
from agentmemory_sidecar.stores.s3 import S3ObjectStore, S3Options
from tests.faults import FaultProxy
from tests.ministack import Ministack
from tests.sidecar.stores.conformance.backends import Backend

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client

REGION = "us-east-1"


class Closable(Protocol):
    async def close(self) -> None: ...


Store = TypeVar("Store", bound=Closable)


def dynamodb_client(url: str, region: str = REGION) -> "DynamoDBClient":
    """A plain client, for what a test arranges or checks beside the store."""
    return cast("DynamoDBClient", Session().create_client("dynamodb", region_name=region, endpoint_url=url))


def s3_client(url: str, region: str = REGION) -> "S3Client":
    """Likewise."""
    return cast("S3Client", Session().create_client("s3", region_name=region, endpoint_url=url))


def new_table(ministack: Ministack) -> str:
    """A table of this test's own."""
    name = f"state-{uuid4().hex}"
    create_table(dynamodb_client(ministack.url), table_definition(name, deletion_protection=False))
    return name


def new_bucket(ministack: Ministack, *, object_lock: bool = False) -> str:
    """A bucket of this test's own."""
    name = f"archive-{uuid4().hex}"
    s3_client(ministack.url).create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
    return name


def through(proxy: FaultProxy) -> AwsOptions:
    """Options for a store behind this proxy."""
    return AwsOptions(REGION, endpoint_url=f"http://{proxy.host}:{proxy.port}", deadline_s=20.0, read_timeout_s=10.0)


class AwsBackend(Generic[Store]):
    """Every client of it goes through one proxy."""

    def __init__(self, proxy: FaultProxy, make: Callable[[], Store]) -> None:
        self._proxy = proxy
        self._make = make
        self.stores = [make()]

    @property
    def store(self) -> Store:
        return self.stores[0]

    def second(self) -> Store:
        self.stores.append(self._make())
        return self.stores[-1]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        await self._proxy.refuse()
        try:
            yield
        finally:
            await self._proxy.heal()

    async def lose_next_answer(self) -> None:
        self._proxy.lose_next_reply()


@asynccontextmanager
async def dynamodb(request: pytest.FixtureRequest) -> AsyncIterator[Backend[StateStore]]:
    """A table of its own on the session's ministack."""
    ministack: Ministack = request.getfixturevalue("ministack")
    table = new_table(ministack)
    async with FaultProxy((ministack.host, ministack.port)) as proxy:
        backend = AwsBackend[StateStore](proxy, lambda: DynamoStateStore(through(proxy), table))
        yield backend
        for store in backend.stores:
            await store.close()


@asynccontextmanager
async def s3(request: pytest.FixtureRequest) -> AsyncIterator[Backend[ObjectStore]]:
    """A bucket of its own, and a key prefix in it."""
    ministack: Ministack = request.getfixturevalue("ministack")
    options = S3Options(new_bucket(ministack), prefix="records/")
    async with FaultProxy((ministack.host, ministack.port)) as proxy:
        backend = AwsBackend[ObjectStore](proxy, lambda: S3ObjectStore(through(proxy), options))
        yield backend
        for store in backend.stores:
            await store.close()
