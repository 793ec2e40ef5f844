"""Release: the lock is free before the client learns how its step ended, whatever that end is."""

import asyncio

from agentmemory_sidecar.memory.ledger import pack
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.step.exchange import Client
from agentmemory_sidecar.step.inject import Injection
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import StoreUnavailable

SAVE_WAIT_S = 1.0
"""How long the end of a failed step waits for its ledger entry to reach the state tier; it goes on in the background."""
QUIET = frozenset({"committed", "repeated"})
"""Outcomes that need no note in the archive: they have their record."""


async def release(services: Services, question: Question, injection: Injection, lease: Lease, client: Client) -> None:
    """Let the next step in. Does nothing where the commit has already done it."""
    services.archiver.leave(question.conversation)
    if lease.released:
        return
    if lease.outcome not in QUIET:
        await _keep_what_was_sent(services, question, injection, client)
    note = b"" if lease.outcome in QUIET else question.note(lease.outcome, services.now())
    await lease.release(note=note)


async def _keep_what_was_sent(services: Services, question: Question, injection: Injection, client: Client) -> None:
    """A client keeps partial thinking of a failed attempt, bound to the prompt as it was: also where nothing was put in."""
    if injection.saved is not None:
        await asyncio.wait({injection.saved}, timeout=SAVE_WAIT_S)
    nothing = injection.nothing
    if nothing is None or not client.begun:
        return
    data = pack(nothing)
    try:
        await services.hot.freeze(question.conversation, nothing.key, data)
    except StoreUnavailable:
        services.hot_health.failed()
    try:
        await services.state.add_entries(question.conversation, {nothing.key: data})
    except StoreUnavailable:
        services.metrics.state_unavailable.inc()
