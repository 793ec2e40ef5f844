"""The two ends of a step, as the turn sees them: the client that asks and Claude that answers. No HTTP library here."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

Headers = Sequence[tuple[str, str]]


class UpstreamFailed(Exception):
    """Claude could not be asked, or its reply broke off. ``timed_out`` in seconds when it was silence, else 0;
    ``answered`` once its reply had begun."""

    def __init__(self, reason: str, timed_out: float = 0.0, *, answered: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out
        self.answered = answered


class ClientGone(Exception):
    """The client closed its connection."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A request as it came. ``path`` is raw (percent-encoded), ``query`` without its question mark."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """By lower-case name; the first value of each."""
    raw_headers: Headers
    body: bytes | AsyncIterator[bytes]
    """Read whole for the Messages API; a stream for everything that only passes through."""


class Response(Protocol):
    """Claude's answer, as it arrives."""

    status: int
    headers: Headers

    content_type: str
    """Without its parameters, in lower case."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come. Raises UpstreamFailed where the connection ends before the body does."""
        ...

    async def read(self) -> bytes:
        """The rest of the body. Raises UpstreamFailed."""
        ...


class Upstream(Protocol):
    def send(
        self, method: str, path: str, query: str, headers: Headers, body: bytes | AsyncIterator[bytes], *, plain: bool
    ) -> AbstractAsyncContextManager[Response]:
        """Ask Claude. Entering raises UpstreamFailed when there is no answer. ``plain``: undo a content encoding."""
        ...


class Client(Protocol):
    """Where the answer goes. Every method raises ``ClientGone`` where the client has left."""

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer at once."""
        ...

    async def begin(self, status: int, headers: Headers) -> None:
        """The head of a streamed answer."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def end(self, data: bytes = b"") -> None:
        """End a streamed answer cleanly, with its last bytes. Without it the connection is cut, so that no client takes
        the answer for whole."""
        ...

    begun: bool
    """Whether the head has gone out."""

    def when_gone(self, call: Callable[[], object]) -> None:
        """Have this called if the client leaves before its answer is complete."""
        ...
