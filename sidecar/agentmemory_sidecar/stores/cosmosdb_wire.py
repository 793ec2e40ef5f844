"""What passes between Azure's client and CosmosDB: each request of a call is seen here, and no write goes out twice.

Azure's client retries writes by itself: where a connection is cut after the request was sent, on 429, on 408 and on 503, in
several layers with an option each. Only the caller of a store can tell whether a write took effect, so none of these layers
gets to see such an end: it leaves here as an exception that they do not know.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import ServiceRequestError, ServiceRequestTimeoutError, ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport

RETRIED = frozenset({408, 410, 429, 449})
"""Beside 500 and above: the statuses on which Azure's client would try again, or elsewhere."""


class Unanswered(Exception):
    """A request brought no answer. ``sent``: it may have been carried out."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class Refused(Exception):
    """CosmosDB answered with an error. Its own text is left out: it may quote what was asked."""

    def __init__(self, status: int, substatus: int = 0, *, after_s: float = 0.0, on_item: bool = True) -> None:
        super().__init__(f"{status}/{substatus}")
        self.status = status
        self.substatus = substatus
        self.after_s = after_s
        """How long to wait, as it asks; 0 where it does not say."""
        self.on_item = on_item
        """Whether an item was asked for, and not the container or the account."""
        self.operation = 0
        """Of a batch: the number of the operation that failed."""


@dataclass(slots=True)
class Attempt:
    """What has been sent for one operation of Azure's client."""

    writes: bool
    sent: bool = False
    """Whether a write was handed to the network."""
    answered: bool = False
    on_item: bool = False
    """Whether the last request was for an item, and not for the container or the account."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the last answer."""

    @property
    def in_doubt(self) -> bool:
        return self.sent and not self.answered

    @property
    def session_token(self) -> str:
        return self.headers.get("x-ms-session-token", "")

    @property
    def etag(self) -> str:
        return self.headers.get("etag", "")


ATTEMPT: ContextVar[Attempt] = ContextVar("attempt")
"""What the request that is being sent belongs to."""


class Wire(AioHttpTransport):  # type: ignore[misc]  # the package names it lazily, which mypy takes for Any
    """The transport of one client, to one endpoint. ``account`` is the last account document that came."""

    def __init__(
        self, endpoint: str, context: ssl.SSLContext | None, connect_timeout_s: float, read_timeout_s: float
    ) -> None:
        """``context``: for TLS; None for the system's authorities. Azure's client would make one for each request, and
        verify no certificate of a host called localhost."""
        super().__init__()
        self._place = place(endpoint)
        self._context = context
        self._timeouts = {"connection_timeout": connect_timeout_s, "read_timeout": read_timeout_s}
        self.account: bytes = b""

    def _build_ssl_config(self, cert: Any, verify: Any) -> ssl.SSLContext | bool:
        return self._context or True

    async def send(self, request: Any, **config: Any) -> Any:
        attempt = ATTEMPT.get(None) or Attempt(writes=False)
        path = urlsplit(request.url).path
        if place(request.url) != self._place:
            raise Unanswered("the client library would have gone to another endpoint", sent=False)
        write = attempt.writes and request.method != "GET"
        if write and attempt.sent:
            raise Unanswered("the client library would have sent it again", sent=True)
        attempt.sent, attempt.answered = attempt.sent or write, False
        attempt.on_item = "/docs" in path
        try:
            response: Any = await super().send(request, **config | self._timeouts)
        except (ServiceRequestError, ServiceResponseError) as error:
            sent = not never_sent(error)
            attempt.sent = attempt.sent and sent
            raise Unanswered(type(error.inner_exception or error).__name__, sent=sent) from None
        attempt.answered, attempt.headers = True, response.headers
        if path in ("", "/") and response.status_code == 200:
            self.account = response.body()
        if response.status_code in RETRIED or response.status_code >= 500:
            raise refused(response.status_code, response.headers, on_item=attempt.on_item)
        return response


def place(url: str) -> tuple[str, int]:
    """Host and port of an URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def refused(status: int, headers: Mapping[str, str], *, on_item: bool) -> Refused:
    """The refusal that an answer's status and headers tell of."""
    return Refused(
        status,
        _number(headers, "x-ms-substatus"),
        after_s=_number(headers, "x-ms-retry-after-ms") / 1000,
        on_item=on_item,
    )


def never_sent(error: ServiceRequestError | ServiceResponseError) -> bool:
    """Whether no connection came about. The transport calls a connection that was cut under a request by the same name
    as one that was refused; by their cause they are told apart."""
    if isinstance(error, ServiceRequestTimeoutError):
        return True
    cause = getattr(error, "inner_exception", None)
    return any(kind.__name__ == "ClientConnectorError" for kind in type(cause).__mro__)


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    return int(text) if text.isdigit() else 0
