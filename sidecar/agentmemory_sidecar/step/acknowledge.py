"""Acknowledge: give the client the end of its reply, now that it is true."""

import asyncio
from contextlib import suppress

import msgspec

from agentmemory_sidecar.step.exchange import Client, ClientGone
from agentmemory_sidecar.step.forward import Answer
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from agentmemory_sidecar.wire.errors import ApiError, new_request_id
from agentmemory_sidecar.wire.events import PING, Reply
from agentmemory_sidecar.wire.reply import as_stream

ACKNOWLEDGED_MS = 600_000
"""The mark outlives the time in which a stored reply may be told again."""
PING_EVERY_S = 5.0
"""Clients give a silent stream up after 20 s at the earliest."""


async def acknowledge(services: Services, question: Question, answer: Answer, client: Client) -> None:
    """Send what was held back, with the outcome of the commit: in headers, or for a stream in a comment."""
    if answer.streamed:
        if not client.begun:
            await client.begin(answer.status, answer.headers)
        comment = " ".join(f"{name}={value}" for name, value in answer.outcome.items())
        await client.end(f": agentmemory {comment}\n\n".encode() + b"".join(answer.held))
    else:
        receipt = [(f"x-agentmemory-{name}", value) for name, value in answer.outcome.items()]
        await client.reply(answer.status, [*answer.headers, *receipt], answer.body)
    if answer.reply is not None:
        with suppress(StoreUnavailable):
            await services.hot.acknowledge(question.conversation, answer.step or question.step, ACKNOWLEDGED_MS)


async def refuse(client: Client, error: ApiError) -> None:
    """Give the client an error, whether or not its stream has begun. A begun stream is cut behind it, never ended."""
    request_id = new_request_id()
    with suppress(ClientGone):
        if client.begun:
            await client.write(error.event(request_id))
        else:
            await client.reply(error.status, list(error.headers(request_id).items()), error.body(request_id))


def told_again(reply: Reply, step: str, outcome: dict[str, str], *, streaming: bool) -> Answer:
    """A stored reply as an answer, in the mode that is asked for now."""
    headers = [("request-id", new_request_id())]
    if streaming:
        headers += [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
        return Answer(
            200, headers, reply, held=list(as_stream(reply.message)), streamed=True, step=step, outcome=outcome
        )
    headers.append(("content-type", "application/json"))
    return Answer(200, headers, reply, body=msgspec.json.encode(reply.message), step=step, outcome=outcome)


class Pings:
    """A ping every few seconds on a stream that has begun, while its end waits. Costs one timer where the commit is quick,
    as it nearly always is."""

    def __init__(self, client: Client, services: Services) -> None:
        self._client, self._services = client, services
        self._timer = asyncio.get_running_loop().call_later(PING_EVERY_S, self._ping)

    def _ping(self) -> None:
        self._services.tasks.start(self._write(), "ping")
        self._timer = asyncio.get_running_loop().call_later(PING_EVERY_S, self._ping)

    async def _write(self) -> None:
        with suppress(ClientGone):
            await self._client.write(PING)

    def cancel(self) -> None:
        self._timer.cancel()
