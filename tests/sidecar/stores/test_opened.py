"""Every setting of a store in the configuration reaches its adapter."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from pydantic import SecretStr

from agentmemory_sidecar.resource import LocalValues, SidecarConfig, compile_resource, parse
from agentmemory_sidecar.resource.archive import LockMode
from agentmemory_sidecar.resource.store_config import AwsConfig, DynamoDbState, RedisHot, S3Archive, TlsConfig
from agentmemory_sidecar.stores.opened import Stores, open_stores
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from tests.sidecar.stores.answers import Answers
from tests.sidecar.stores.hot_servers import DebianRedis
from tests.sidecar.stores.postgres.test_tls import Authority

pytestmark = pytest.mark.usefixtures("aws_credentials")


def config(directory: Path, aws: AwsConfig, **hot: object) -> SidecarConfig:
    resource = parse({
        "apiVersion": "agentmemory.io/v1alpha1", "kind": "AgentMemory", "metadata": {"name": "test"},
        "spec": {"ephemeral": {"redis": {"external": {"urls": ["redis://127.0.0.1:1"]}}, "timeout": "10s"},
                 "state": {"dynamodb": {"table": "memory"}, "timeout": "20s"},
                 "archive": {"s3": {"bucketPrefix": "memory"}, "timeout": "20s"}},
    })  # fmt: skip
    made = compile_resource(resource, "local", values=LocalValues(directory, None), data_dir=directory)
    archive = S3Archive(
        bucket="records", key_prefix="mine/", aws=aws, lock_mode=LockMode.COMPLIANCE, lock_days=7, kms_key_arn="arn:key"
    )
    found = {"state": DynamoDbState(table="memory", aws=aws), "archive": archive}
    return made.model_copy(update={**found, **({"hot": RedisHot.model_validate(hot)} if hot else {})})


@asynccontextmanager
async def opened(config: SidecarConfig) -> AsyncIterator[Stores]:
    stores = await open_stores(config)
    try:
        yield stores
    finally:
        await stores.close()


async def test_aws_is_called_with_the_key_and_the_certificate_given(tmp_path: Path) -> None:
    """By a service that asks for one."""
    authority = Authority(tmp_path / "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(authority.issue(x509.IPAddress(ip_address("127.0.0.1"))))
    context.verify_mode = ssl.CERT_REQUIRED
    pem = authority.issue(x509.DNSName("client.example")).read_text()
    with Answers(context).running() as service:
        service.prepared = [(200, b"{}"), (200, b""), (200, b""), (200, b"")]
        aws = AwsConfig(
            region="eu-west-1",
            endpoint=service.url,
            access_key_id="AKIDGIVEN",
            secret_access_key=SecretStr("hunter2"),
            session_token=SecretStr("hunter3"),
            tls=TlsConfig(ca_pem=authority.file.read_text(), certificate_pem=pem, key_pem=SecretStr(pem)),
        )
        async with opened(config(tmp_path, aws)) as stores:
            await stores.records.put({"a": b"record"})
            await stores.blobs.put({"b": b"blob"})

    table, bucket, record, blob = service.headers  # the first two are the looks at the start
    assert service.requests == [
        "POST /", "HEAD /records", "PUT /records/mine/records/a", "PUT /records/mine/blobs/b",
    ]  # fmt: skip
    for headers, name in zip((table, bucket, record, blob), ("dynamodb", "s3", "s3", "s3"), strict=True):
        assert "Credential=AKIDGIVEN/" in headers["authorization"]
        assert f"/eu-west-1/{name}/aws4_request" in headers["authorization"]
        assert headers["x-amz-security-token"] == "hunter3"
    for headers in (record, blob):
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "arn:key"
    assert record["x-amz-object-lock-mode"] == "COMPLIANCE"
    assert "x-amz-object-lock-mode" not in blob


async def test_files_of_keys_are_there_until_the_close(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    aws = AwsConfig(region="local", endpoint="https://127.0.0.1:1", tls=TlsConfig(ca_pem=authority.file.read_text()))
    async with opened(config(tmp_path, aws)) as stores:
        directory = Path(stores.files.write("more")).parent
        assert len(list(directory.iterdir())) == 3  # two of them the authority: once for each store
        with pytest.raises(StoreUnavailable, match="EndpointConnectionError"):
            await stores.state.ping()
    assert not directory.exists()


async def test_redis_is_called_with_the_certificate_given(tmp_path: Path, debian_redis: DebianRedis) -> None:
    read = await asyncio.to_thread(
        lambda: {
            name: (debian_redis.certificates / name).read_text() for name in ("ca.pem", "client.pem", "client.key")
        }
    )
    tls = TlsConfig(ca_pem=read["ca.pem"], certificate_pem=read["client.pem"], key_pem=SecretStr(read["client.key"]))
    aws = AwsConfig(region="local", endpoint="http://127.0.0.1:1")
    urls = (f"rediss://127.0.0.1:{debian_redis.port}",)
    async with opened(config(tmp_path, aws, urls=urls, username="sidecar", password="first", tls=tls)) as stores:
        await stores.hot.ping()
