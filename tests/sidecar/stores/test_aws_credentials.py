"""As whom the AWS adapters call."""

import asyncio
from pathlib import Path

import pytest

from agentmemory_sidecar.stores.aws import AwsOptions, session
from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.protocols import StoreUnavailable, Versions
from tests.ministack import CREDENTIALS, Ministack
from tests.sidecar.stores.answers import Answers
from tests.sidecar.stores.conformance.aws_backends import new_table
from tests.sidecar.stores.test_aws import TALK, store_at, write

pytestmark = pytest.mark.usefixtures("aws_credentials")


async def test_no_credentials_at_all(ministack: Ministack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with store_at(ministack.url) as store:
        with pytest.raises(StoreUnavailable, match="give the pod an IAM role") as failed:
            await write(store)
    assert failed.value.definite


async def test_a_role_is_assumed(ministack: Ministack) -> None:
    """The credentials that sign the request are the role's, not the environment's."""
    table = new_table(ministack)
    options = AwsOptions(
        "us-east-1",
        endpoint_url=ministack.url,
        role_arn="arn:aws:iam::000000000000:role/memory",
        sts_endpoint_url=ministack.url,
    )
    credentials = session(options).get_credentials()
    assert credentials is not None
    frozen = await asyncio.to_thread(credentials.get_frozen_credentials)
    assert frozen.access_key != CREDENTIALS["AWS_ACCESS_KEY_ID"]
    assert frozen.token
    store = DynamoStateStore(options, table)
    await write(store)
    assert await store.versions(TALK) == Versions(1, 1)
    await store.close()


async def test_a_static_key_signs_and_shows_nowhere(answers: Answers) -> None:
    """It wins over the environment's."""
    options = AwsOptions(
        "eu-west-1",
        endpoint_url=answers.url,
        access_key_id="AKIDGIVEN",
        secret_access_key="hunter2",
        session_token="hunter3",
    )
    store = DynamoStateStore(options, "memory")
    await store.ping()
    await store.close()
    (headers,) = answers.headers
    assert "Credential=AKIDGIVEN/" in headers["authorization"]
    assert "/eu-west-1/dynamodb/aws4_request" in headers["authorization"]
    assert headers["x-amz-security-token"] == "hunter3"
    assert "hunter" not in repr(options)


async def test_a_static_key_assumes_the_role(ministack: Ministack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    options = AwsOptions(
        "us-east-1",
        role_arn="arn:aws:iam::000000000000:role/memory",
        sts_endpoint_url=ministack.url,
        access_key_id="test",
        secret_access_key="test",
    )
    credentials = session(options).get_credentials()
    assert credentials is not None
    frozen = await asyncio.to_thread(credentials.get_frozen_credentials)
    assert frozen.access_key not in ("", "test")
