"""Plain AWS clients against a front."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.aws.front import Front

CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
TABLE: dict[str, Any] = {
    "TableName": "memory",
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
}


class Client:
    """A client of one service in one region, called off the event loop: ``await client.put_item(…)``."""

    def __init__(self, front: Front, service: str, region: str) -> None:
        self._client: Any = _session().create_client(
            service,  # type: ignore[call-overload]
            region_name=region,
            endpoint_url=front.url,
            config=CONFIG,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, dict[str, Any]]]:
        method = getattr(self._client, name)

        async def call(**arguments: Any) -> dict[str, Any]:
            answer: dict[str, Any] = await asyncio.to_thread(method, **arguments)
            return answer

        return call


@cache
def _session() -> botocore.session.Session:
    """One for all clients: reading botocore's service descriptions takes long."""
    return botocore.session.Session()


async def refused(call: Coroutine[Any, Any, Any], code: str, message: str = "") -> None:
    """The call is refused with this code, and a message that holds this text."""
    with pytest.raises(ClientError) as told:
        await call
    assert told.value.response["Error"]["Code"] == code
    assert message in told.value.response["Error"].get("Message", "")


def replica(kind: str, region: str) -> dict[str, Any]:
    return {"TableName": "memory", "ReplicaUpdates": [{kind: {"RegionName": region}}]}
