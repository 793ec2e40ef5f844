"""The servers of histories in real time: for each region a process of the strict AWS (:mod:`tests.aws`) and a Valkey, and on
every way from a region's sidecars to a store a TCP proxy."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from agentmemory_sidecar.layout.dynamodb import table_definition
from agentmemory_sidecar.stores.aws import AwsOptions
from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.s3 import S3ObjectStore, S3Options
from tests.aws.front import Front
from tests.aws.tests.clients import Client
from tests.aws.tests.test_buckets import replication
from tests.faults import FaultProxy
from tests.histories.plan import REGIONS
from tests.servers import KillableValkey, killable_valkeys

TABLE = "histories"
DEADLINE_S = 4.0
"""Of a call to DynamoDB or S3: the servers and the sidecars may share one busy core."""


class StandIns:
    """``async with StandIns(urls, directory) as servers``: one after another, histories run on them.

    :param processes: the URL of each region's AWS process.
    :param directory: where the Valkeys keep their data; it can be entered by their account.
    """

    def __init__(self, processes: Mapping[str, str], directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.AsyncExitStack()
        self.runs = 0
        """Histories so far."""
        self.front = Front(processes)
        self.valkeys: dict[str, KillableValkey] = {}
        self.proxies: dict[tuple[str, str], FaultProxy] = {}
        """By region and what is at the other end: ``hot``, ``records``, ``blobs``, or the endpoint's region."""
        self.states: dict[tuple[str, str], DynamoStateStore] = {}
        self.objects: dict[tuple[str, str], S3ObjectStore] = {}
        self.direct: dict[str, tuple[DynamoStateStore, S3ObjectStore]] = {}
        """By region: without a proxy, for the checks."""

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        make = await enter(killable_valkeys(self._directory))
        await enter(self.front)
        for region in REGIONS:
            self.valkeys[region] = await make()
            await self._proxy(region, "hot", self.valkeys[region].server.socket)
            for endpoint in REGIONS:
                options = self._options(endpoint, await self._proxy(region, endpoint, self._aws))
                self.states[region, endpoint] = self._closing(DynamoStateStore(options, TABLE, head=endpoint))
            for kind in ("records", "blobs"):
                options = self._options(region, await self._proxy(region, kind, self._aws))
                self.objects[region, kind] = self._closing(S3ObjectStore(options, self._bucket(region, f"{kind}/")))
            options = self._options(region, self.front.url)
            state = self._closing(DynamoStateStore(options, TABLE, head=region))
            self.direct[region] = state, self._closing(S3ObjectStore(options, self._bucket(region, "records/")))
        await self.empty()
        # A client is made with its first call, and that takes long.
        every = (
            *self.states.values(),
            *self.objects.values(),
            *(each for pair in self.direct.values() for each in pair),
        )
        for store in every:
            await store.ping()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def _aws(self) -> tuple[str, int]:
        host, _, port = self.front.url.removeprefix("http://").partition(":")
        return host, int(port)

    async def _proxy(self, region: str, what: str, target: tuple[str, int] | Path) -> str:
        proxy = await self._stack.enter_async_context(FaultProxy(target))
        self.proxies[region, what] = proxy
        return f"http://{proxy.host}:{proxy.port}"

    def _closing(self, store: Any) -> Any:
        self._stack.push_async_callback(store.close)
        return store

    @staticmethod
    def _options(region: str, url: str) -> AwsOptions:
        return AwsOptions(
            region, endpoint_url=url, deadline_s=DEADLINE_S, read_timeout_s=DEADLINE_S * 0.75,
            access_key_id="test", secret_access_key="test",
        )  # fmt: skip

    @staticmethod
    def _bucket(region: str, prefix: str) -> S3Options:
        return S3Options(f"{TABLE}-{region}", prefix=prefix)

    async def empty(self) -> None:
        """A table and buckets with nothing in them, replicated between all regions."""
        await self.front.reset()
        tables = Client(self.front, "dynamodb", REGIONS[0])
        await tables.create_table(**table_definition(TABLE, deletion_protection=False).create)
        for region in REGIONS[1:]:
            await tables.update_table(TableName=TABLE, ReplicaUpdates=[{"Create": {"RegionName": region}}])
        buckets = {region: Client(self.front, "s3", region) for region in REGIONS}
        for region, client in buckets.items():
            place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            await client.create_bucket(Bucket=f"{TABLE}-{region}", **place)
            versioned = {"Status": "Enabled"}
            await client.put_bucket_versioning(Bucket=f"{TABLE}-{region}", VersioningConfiguration=versioned)
        for region, client in buckets.items():
            others = [other for other in REGIONS if other != region]
            rules = [
                rule
                for number, other in enumerate(others, 1)
                for rule in replication(f"{TABLE}-{other}", ID=other, Priority=number)["Rules"]
            ]
            configuration = replication("")
            await client.put_bucket_replication(
                Bucket=f"{TABLE}-{region}", ReplicationConfiguration=configuration | {"Rules": rules}
            )
