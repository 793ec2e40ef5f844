"""Shadow mode: the agent's request goes to Claude as it is and the answer comes back as it is. Beside them the very step of
``turn.py`` runs for nobody, on a copy of the answer: it locks, hydrates, filters, and commits, and its records say what it
would have put into the prompt and whom it would have refused.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from agentmemory_sidecar.step.aside import stream_through
from agentmemory_sidecar.step.exchange import Client, Headers, UpstreamFailed
from agentmemory_sidecar.step.overheard import Overheard
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Flight, Services
from agentmemory_sidecar.turn import run


class Nobody:
    """The client of a step that only watches."""

    begun = False

    async def reply(self, status: int, headers: Headers, body: bytes) -> None: ...

    async def begin(self, status: int, headers: Headers) -> None:
        self.begun = True

    async def write(self, data: bytes) -> None: ...

    async def end(self, data: bytes = b"") -> None: ...

    def when_gone(self, call: Callable[[], object]) -> None: ...


async def shadow(services: Services, question: Question, client: Client) -> None:
    """Pass the request on and watch it. Raises ApiError and ClientGone as passing through does."""
    heard = Overheard(question.conversation)
    heard.watching = services.tasks.start(_watch(services, question, heard), "shadow a step")
    try:
        inbound = question.inbound
        assert isinstance(inbound.body, bytes)
        await stream_through(services, inbound, question.path, inbound.body, client, decoded=False, heard=heard)
    finally:
        heard.end(UpstreamFailed("the client left", answered=True))  # not heard where the answer has ended


async def _watch(services: Services, question: Question, heard: Overheard) -> None:
    flight = Flight(asyncio.current_task())
    services.flights.add(flight)
    # The client had its answer and asked on: only because we are not in its way is it sooner than our commit.
    ending = {each.watching for each in services.overheard if each.of == question.conversation and each.whole}
    services.overheard.add(heard)
    try:
        if ending:
            await asyncio.wait({task for task in ending if task is not None})
        others = tuple(replace(each, upstream=heard) for each in services.elsewhere)
        await run(replace(services, upstream=heard, elsewhere=others), question, Nobody(), flight)
    finally:
        services.overheard.discard(heard)
        services.flights.discard(flight)
