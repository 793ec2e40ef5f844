"""The stand-in as a process of its own, as it runs in a pod."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture
def process() -> Iterator[str]:
    """Its URL."""
    command = [sys.executable, "-m", "tests.aws", "--regions", "us-east-1,us-west-2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            assert line.startswith("us-east-1, us-west-2: http://"), line
            yield line.split(": ", 1)[1].strip()
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait()


def admin(url: str, what: str, **body: Any) -> Any:
    request = Request(f"{url}/_aws/{what}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request) as answer:
        return json.loads(answer.read())


def test_faults_are_set_over_http(process: str) -> None:
    admin(process, "creating", seconds=1000)
    east = boto3.client("dynamodb", region_name="us-east-1", endpoint_url=process, **KEYS)
    east.create_table(
        TableName="memory",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    assert east.describe_table(TableName="memory")["Table"]["TableStatus"] == "CREATING"
    admin(process, "replica", table="memory", region="us-east-1", status="ACTIVE")
    assert east.describe_table(TableName="memory")["Table"]["TableStatus"] == "ACTIVE"
    links = admin(process, "links", **{"from": "us-east-1", "lag": 0.5, "cut": True})
    assert [(link["from"], link["lag"], link["cut"]) for link in links] == [
        ("us-east-1", 0.5, True),
        ("us-west-2", 0.0, False),
    ]
    assert not any(link["cut"] for link in admin(process, "heal"))
    assert admin(process, "settle") == {"pending": 0}
    with urlopen(f"{process}/_aws/state") as answer:
        assert json.loads(answer.read())["changes"] == ["us-east-1 CreateTable"]
    admin(process, "reset")
    assert east.list_tables()["TableNames"] == []
