"""What the front reads of a request, and answers by itself."""

import json
import re
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from multidict import CIMultiDict

ACCOUNT = "000000000000"
_SCOPE = re.compile(r"Credential=([^/,]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request: ``region`` and ``service`` are those it is signed for."""

    method: str
    path: str
    """Path and query as sent."""
    headers: CIMultiDict[str]
    body: bytes
    region: str
    service: str

    @property
    def operation(self) -> str:
        """DynamoDB's operation; empty for a service that has no such header."""
        return self.headers.get("X-Amz-Target", "").rpartition(".")[2]

    def json(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.body or b"{}")
        return loaded

    def to(self, region: str, body: bytes | None = None, operation: str = "") -> "Call":
        """The same as if it had been signed for another region, or with another body and operation."""
        headers = CIMultiDict(self.headers)
        if "Authorization" in headers:
            headers["Authorization"] = _SCOPE.sub(
                rf"Credential=\1/\2/{region}/\4/aws4_request", headers["Authorization"]
            )
        if operation:
            headers["X-Amz-Target"] = f"DynamoDB_20120810.{operation}"
        return Call(self.method, self.path, headers, self.body if body is None else body, region, self.service)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    def json(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.body or b"{}")
        return loaded


def scope(headers: CIMultiDict[str], query: str) -> tuple[str, str] | None:
    """Region and service of a request's signature, in the header or in a presigned URL."""
    found = _SCOPE.search(headers.get("Authorization", ""))
    if found is None:
        presigned = re.search(r"X-Amz-Credential=[^&]*?%2F\d{8}%2F([^%]+)%2F([^%]+)%2F", query)
        return (presigned[1], presigned[2]) if presigned else None
    return found[3], found[4]


def passed_on(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Headers without those of the connection."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP)


def dynamodb_reply(body: dict[str, Any]) -> Reply:
    headers = CIMultiDict({"Content-Type": "application/x-amz-json-1.0", "x-amzn-RequestId": "front"})
    return Reply(200, headers, json.dumps(body).encode())


def s3_reply(status: int, xml: str = "", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(
        status, CIMultiDict({"Content-Type": "application/xml", "x-amz-request-id": "front"} | named), xml.encode()
    )


class Refused(Exception):
    """What AWS would refuse."""

    def __init__(self, code: str, message: str, status: int = 400, **headers: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.headers = headers

    def reply(self, service: str, *, head: bool = False) -> Reply:
        if service == "s3":
            text = f"<Error><Code>{self.code}</Code><Message>{escape(str(self))}</Message></Error>"
            return s3_reply(self.status, "" if head else text, **self.headers)
        body = {"__type": f"com.amazonaws.dynamodb.v20120810#{self.code}", "message": str(self)}
        answer = dynamodb_reply(body)
        return Reply(self.status, answer.headers, answer.body)
