"""An answer as it is overheard: Claude, to a step that only watches a request which somebody else sends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agentmemory_sidecar.step.exchange import Headers, Response, UpstreamFailed
from agentmemory_sidecar.stores.protocols import Conversation

_LAST_EVENT = b"event: message_stop"


@dataclass(slots=True)
class _Answer:
    """The copy of an answer, as far as it has come."""

    status: int
    headers: Headers
    content_type: str
    coming: "asyncio.Queue[_Heard]"

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            match await self.coming.get():
                case bytes(chunk):
                    yield chunk
                case UpstreamFailed() as failed:
                    raise failed
                case _:
                    return

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])


_Heard = _Answer | bytes | UpstreamFailed | None
"""An answer's head, a part of its body, how it broke off, or None for its end."""


@dataclass(eq=False, slots=True)
class Overheard:
    """Stands for Claude before the step that watches. Whoever gives the answer to the client tells it here too."""

    of: Conversation | None = None
    """Whose step it was; None where nobody watches."""
    whole: bool = False
    """Whether the client may have the whole answer, and so may ask its next question."""
    watching: "asyncio.Task[None] | None" = None
    """The step that watches; None where none does."""
    _coming: "asyncio.Queue[_Heard]" = field(default_factory=asyncio.Queue)

    def begin(self, response: Response) -> None:
        self._tell(_Answer(response.status, response.headers, response.content_type, self._coming))

    def hear(self, chunk: bytes) -> None:
        self._tell(chunk)
        self.whole = self.whole or _LAST_EVENT in chunk

    def end(self, failed: UpstreamFailed | None = None) -> None:
        """The answer is over, or there will be none; what is said after the first end is not heard."""
        self._tell(failed)
        self.whole = True

    def _tell(self, said: _Heard) -> None:
        if self.watching is not None and not self.watching.done():  # what nobody reads is not kept
            self._coming.put_nowait(said)

    @asynccontextmanager
    async def send(
        self, method: str, path: str, query: str, headers: Headers, body: bytes | AsyncIterator[bytes], *, plain: bool
    ) -> AsyncIterator[Response]:
        """The answer to the request that was really sent. Raises UpstreamFailed."""
        match await self._coming.get():
            case _Answer() as answer:
                yield answer
            case UpstreamFailed() as failed:
                raise failed
            case _:
                raise UpstreamFailed("its answer ended before it began")
