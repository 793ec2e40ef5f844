"""Errors of AWS as a user meets them, and credentials as botocore finds them."""

import asyncio
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from botocore import exceptions

from agentmemory_operator.aws import Access, Aws, AwsAway, AwsRefused, session, told
from tests.aws.front import Front


def client_error(code: str, status: int = 400) -> exceptions.ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return exceptions.ClientError(answer, "DescribeTable")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (client_error("AccessDeniedException"), AwsRefused, "grant the operator's role DescribeTable"),
        (client_error("ExpiredToken"), AwsRefused, "check the credentials"),
        (client_error("ValidationException"), AwsRefused, "ValidationException: why"),
        (client_error("InternalServerError", 500), AwsAway, "InternalServerError"),
        (exceptions.NoCredentialsError(), AwsRefused, "give it a role"),
        (exceptions.EndpointConnectionError(endpoint_url="http://e"), AwsAway, "no answer"),
        (exceptions.ReadTimeoutError(endpoint_url="http://e"), AwsAway, "no answer"),
    ],
)
def test_an_error_says_what_to_do(error: Exception, kind: type[Exception], text: str) -> None:
    found = told(error, "dynamodb in us-east-1")
    assert type(found) is kind
    assert "dynamodb in us-east-1" in str(found)
    assert text in str(found)


def test_the_account_is_the_roles() -> None:
    assert Access("r", role_arn="arn:aws:iam::123456789012:role/a").account == "123456789012"
    assert Access("r").account == ""


def test_keys_do_not_show() -> None:
    access = Access("r", access_key_id="the-id", secret_access_key="the-key", session_token="the-token")
    assert "the-" not in repr(access)


async def test_a_region_that_is_not_there_is_away_and_not_an_exception_of_the_client() -> None:
    aws = Aws(threads=1)
    access = Access("us-east-1", endpoint="http://127.0.0.1:1", access_key_id="a", secret_access_key="b")
    with pytest.raises(AwsAway, match="no answer"):
        await aws.call(access, "dynamodb", "list_tables")
    await aws.close()
    await aws.close()


async def test_a_region_that_hangs_keeps_nobody_from_another(aws: Front) -> None:
    calls = Aws(threads=1, deadline_s=8.0)
    aws.reach("us-west-2", "hang")
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    east, west = (Access(region, endpoint=aws.url, **keys) for region in ("us-east-1", "us-west-2"))
    hanging = [calls.call(west, "dynamodb", "list_tables") for _ in range(3)]
    served, *hung = await asyncio.gather(calls.call(east, "dynamodb", "list_tables"), *hanging, return_exceptions=True)
    assert isinstance(served, dict)
    assert all(isinstance(each, AwsAway) for each in hung)
    aws.reach("us-west-2", "ok")
    await calls.close()


def test_pod_identity_is_found_by_the_default_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """EKS Pod Identity: an endpoint on the node and a token in a file, as the operator's own pod gets them."""
    asked: list[str] = []

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            body = b"""{"AccessKeyId": "from-agent", "SecretAccessKey": "s", "Token": "t",
                "Expiration": "2999-01-01T00:00:00Z"}"""
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Agent)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        (tmp_path / "token").write_text("the-pods-token")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        monkeypatch.setenv(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/v1/credentials"
        )
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        found = session(Access("us-east-1")).get_credentials()
        assert found is not None
        assert found.access_key == "from-agent"
        assert asked == ["the-pods-token"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_irsa_is_found_by_the_default_chain(aws: Front, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """IRSA: a role and a projected token, which STS takes for credentials."""
    token = tmp_path / "token"
    token.write_text("eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcGVyYXRvciJ9.")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/operator")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    calls = Aws(threads=1)
    answer = await calls.call(Access("us-east-1", endpoint=aws.url), "dynamodb", "list_tables")
    await calls.close()
    assert answer["TableNames"] == []
    assert any("AssumeRoleWithWebIdentity" in text and "role%2Foperator" in text for text in aws.assumed)
