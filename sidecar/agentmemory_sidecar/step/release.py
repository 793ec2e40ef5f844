"""Release: the lock is free before the client learns how its step ended, whatever that end is."""

import asyncio
from collections.abc import Mapping

from agentmemory_sidecar.memory.ledger import pack
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.step.exchange import Client
from agentmemory_sidecar.step.inject import Injection
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import StoreUnavailable

SAVE_WAIT_S = 1.0
"""How long the end of a failed step waits for its ledger entry to reach the state tier; it goes on in the background."""
GIVE_UP_MS = 600_000
QUIET = frozenset({"committed", "repeated"})
"""Outcomes that need no note in the archive: they have their record."""


async def release(services: Services, question: Question, injection: Injection, lease: Lease, client: Client) -> None:
    """Let the next step in. Does nothing where the commit has already done it."""
    services.archiver.leave(question.conversation)
    if lease.released:
        return
    if lease.outcome not in QUIET:
        await _keep_what_was_sent(services, question, injection, lease, client)
    note = b"" if lease.outcome in QUIET else question.note(lease.outcome, services.now())
    await lease.release(note=note)


async def _keep_what_was_sent(
    services: Services, question: Question, injection: Injection, lease: Lease, client: Client
) -> None:
    """A client keeps partial thinking of a failed attempt, bound to the prompt as it was: also where nothing was put in."""
    nothing = injection.nothing
    if nothing is not None and client.begun:
        injection.unsaved[nothing.key] = data = pack(nothing)
        try:
            if lease.degraded:
                await lease.keep({nothing.key: data})
            else:
                await services.hot.freeze(question.conversation, nothing.key, data)
        except StoreUnavailable:
            lease.intact = False  # only the state tier will know of it
    if injection.unsaved:
        saved = services.tasks.start(_save(services, question, injection.unsaved), "save a ledger entry")
        await asyncio.wait({saved}, timeout=SAVE_WAIT_S)


async def _save(services: Services, question: Question, entries: Mapping[str, bytes]) -> None:
    """Carry an entry to the state tier, as long as the hot tier keeps it for a pending one's sake."""
    pause = 0.2
    while True:
        try:
            await services.state.add_entries(question.conversation, entries)
        except StoreUnavailable:
            if question.elapsed_ms() > GIVE_UP_MS:
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)
        else:
            return
