"""Forward: ask Claude, let the reply through as it comes, and keep back its end.

A client takes a stream for success when it has seen ``message_delta``; that frame and all after it wait for the commit.
A reply that breaks off never ends cleanly.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field

import msgspec

from agentmemory_sidecar.resource.agentmemory import OnDisconnect
from agentmemory_sidecar.step.exchange import Client, ClientGone, Headers, Response, UpstreamFailed
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.wire.errors import ApiError, upstream_cut, upstream_timeout, upstream_unreachable
from agentmemory_sidecar.wire.events import Accumulator, Frames, Reply
from agentmemory_sidecar.wire.headers import to_client, to_upstream, with_beta

DROP_BLOCK_BETA = "thinking-binding-controls-2026-08-01"


@dataclass(slots=True)
class Prompt:
    """What goes to Claude."""

    body: bytes
    betas: tuple[str, ...] = ()
    receipt: dict[str, str] = field(default_factory=dict)
    """What was read and injected, for the reply's headers."""


@dataclass(slots=True)
class Answer:
    """Claude's answer, its end not yet given to the client.

    ``reply`` is None for an answer that is no success: it is given on unchanged and nothing is committed.
    """

    status: int
    headers: Headers
    reply: Reply | None = None
    body: bytes = b""
    """The whole answer when it was not streamed."""
    held: list[bytes] = field(default_factory=list)
    """The end of a stream: frames to be sent after the commit."""
    streamed: bool = False
    outcome: dict[str, str] = field(default_factory=dict)
    """What became of the step, for the receipt."""
    step: str = ""
    """The step that made the reply, where it is not this one (a stored reply told again)."""


async def forward(services: Services, question: Question, prompt: Prompt, client: Client) -> Answer:
    """Ask Claude. Raises ApiError where there is no answer or it broke off, ClientGone where nobody listens."""
    headers = headers_for(question, prompt)
    try:
        async with services.upstream.send(
            "POST", question.path, question.inbound.query, headers, prompt.body, plain=True
        ) as response:
            if response.status == 200 and response.content_type == "text/event-stream":
                stays = services.config.on_disconnect is OnDisconnect.COMPLETE
                return await _stream(response, prompt, Listener(client, stays=stays))
            return whole(response, await response.read(), prompt)
    except UpstreamFailed as error:
        raise broken(error) from error


def headers_for(question: Question, prompt: Prompt) -> list[tuple[str, str]]:
    """The client's headers as they go to Claude."""
    headers = to_upstream(question.inbound.raw_headers, decoded=True, read=True)
    for beta in prompt.betas:
        headers = with_beta(headers, beta)
    return headers


def broken(error: UpstreamFailed) -> ApiError:
    """What a failed upstream is to the client."""
    if error.timed_out:
        return upstream_timeout(error.timed_out)
    return upstream_cut() if error.answered else upstream_unreachable(error.reason)


class Listener:
    """The client while the reply streams. With ``stays`` the step goes on though nobody hears it any more."""

    def __init__(self, client: Client, *, stays: bool) -> None:
        self._client, self._stays = client, stays
        self._gone = False

    async def begin(self, status: int, headers: Headers) -> None:
        await self._give(self._client.begin(status, headers))

    async def write(self, data: bytes) -> None:
        if not self._gone:
            await self._give(self._client.write(data))

    async def _give(self, giving: Awaitable[None]) -> None:
        try:
            await giving
        except ClientGone:
            if not self._stays:
                raise
            self._gone = True


def whole(response: Response, body: bytes, prompt: Prompt) -> Answer:
    """An answer that came at once."""
    answer = Answer(response.status, to_client(response.headers), body=body)
    if response.status == 200:
        try:
            message = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return answer
        if isinstance(message, dict) and message.get("type") == "message" and message.get("stop_reason"):
            answer.reply = Reply(message, raw=body)
            answer.headers = [*answer.headers, *prompt.receipt.items()]
    return answer


async def _stream(response: Response, prompt: Prompt, client: Listener) -> Answer:
    headers = [*to_client(response.headers), *prompt.receipt.items()]
    await client.begin(response.status, headers)
    frames, copy = Frames(), Accumulator()
    held: list[bytes] = []
    async for chunk in response.chunks():
        ready: list[bytes] = []
        copy.take(frames.feed(chunk), ready, held)
        if ready:
            await client.write(b"".join(ready))
        if copy.error is not None:
            # It is the reply's end, whatever becomes of the connection.
            break
    if copy.error is None and not copy.complete:
        raise upstream_cut()
    reply = copy.reply() if copy.complete else None
    return Answer(response.status, headers, reply, held=held, streamed=True)
