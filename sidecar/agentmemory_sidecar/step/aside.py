"""Requests that are no turns: no lock, no commit. Those of a known session still carry its ledger, for their prefix must
be what the conversation's is (a token count, a title, a compaction of the history)."""

from collections.abc import AsyncIterator

from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.memory.ledger import Entry, Made, assemble, replayed
from agentmemory_sidecar.memory.ledger import unpack as unpack_entry
from agentmemory_sidecar.step import heads
from agentmemory_sidecar.step.exchange import Client, Inbound, UpstreamFailed
from agentmemory_sidecar.step.forward import broken
from agentmemory_sidecar.step.overheard import Overheard
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import StoreUnavailable
from agentmemory_sidecar.wire.headers import to_client, to_upstream


async def aside(services: Services, question: Question, client: Client) -> None:
    """Forward a request that only reads. Raises ApiError, ClientGone."""
    ledger, made = await _ledger(services, question)
    body = assemble(question.request, replayed(question.request, ledger, made).entries)
    await stream_through(services, question.inbound, question.path, body, client, decoded=True)


async def _ledger(services: Services, question: Question) -> tuple[dict[str, Entry], list[Made]]:
    """The conversation's ledger, from wherever it can be had; a request that only reads goes on without."""
    found: dict[str, bytes] = {}
    item = Item()
    complete = False
    try:
        begun = await services.hot.peek(question.conversation, compaction=question.identity.compaction)
        found |= begun.ledger
        if begun.copy is not None:
            _, body, others = heads.unpack_copy(services.config, services.state.head, begun.copy)
            item = heads.together(services.config, services.state.head, body, others)
            complete = bool(body)
    except StoreUnavailable:
        services.hot_health.failed()
    if not complete:
        try:
            stored = await services.state.read(question.conversation)
            found |= stored.ledger
            item = heads.whole(services.config, services.state.head, stored)
        except StoreUnavailable:
            services.metrics.state_unavailable.inc()
    return {key: unpack_entry(data) for key, data in found.items()}, item.replies


async def pass_through(services: Services, inbound: Inbound, path: str, client: Client) -> None:
    """Forward a request that is none of ours, byte for byte."""
    await stream_through(services, inbound, path, inbound.body, client, decoded=False)


async def stream_through(
    services: Services,
    inbound: Inbound,
    path: str,
    body: bytes | AsyncIterator[bytes],
    client: Client,
    *,
    decoded: bool,
    heard: Overheard | None = None,
) -> None:
    """Give the answer on as it comes, and a copy of it to who listens. One that breaks off is cut for the client too."""
    read, heard = heard is not None, heard or Overheard()
    headers = to_upstream(inbound.raw_headers, decoded=decoded, read=read)
    if not isinstance(body, bytes) and (length := inbound.headers.get("content-length")):
        headers.append(("content-length", length))
    try:
        async with services.upstream.send(inbound.method, path, inbound.query, headers, body, plain=read) as response:
            heard.begin(response)
            await client.begin(response.status, to_client(response.headers))
            async for chunk in response.chunks():
                heard.hear(chunk)
                await client.write(chunk)
            heard.end()
            await client.end()
    except UpstreamFailed as error:
        heard.end(error)
        if client.begun:
            return  # not ended, so it is cut: what it is, and whether an error would fit into it, is not known here
        raise broken(error) from error
