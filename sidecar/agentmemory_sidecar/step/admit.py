"""Admit: take the conversation's lock, and with the same call everything the hot tier knows.

The lock is politeness towards the user's bill; that no write is lost is decided at commit. So where the hot tier is gone
the lock moves to the state item (``Degraded``) or the step is refused, as the resource says.
"""

import asyncio
import random
from dataclasses import dataclass

from agentmemory_sidecar.resource.ephemeral import HotUnavailable
from agentmemory_sidecar.resource.session import OnConflict
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.protocols import (
    Begun,
    Busy,
    Claim,
    Locked,
    Stored,
    StoreUnavailable,
    Versions,
)
from agentmemory_sidecar.wire.errors import busy, memory_unavailable


@dataclass(eq=False, slots=True)
class Lease:
    """A held lock. ``begun`` None: the lock is on the state item, which ``stored`` then is."""

    services: Services
    question: Question
    token: str
    begun: Begun | None = None
    stored: Stored | None = None
    checked: "asyncio.Future[Versions] | None" = None
    """The state tier's versions, asked for together with the lock."""
    in_hot: bool = True
    """Whether the hot tier may hold this lock (also when its answer was lost)."""
    released: bool = False
    intact: bool = True
    """Whether the state item is surely as it was before this step."""
    outcome: str = "cancelled"
    """How the step ended, for its note in the archive."""

    @property
    def degraded(self) -> bool:
        return self.begun is None

    async def renew(self) -> None:
        ttl = self.services.config.lock.ttl_s
        if self.degraded:
            await self.services.state.lock(self.question.conversation, self.token, ttl)
        else:
            await self.services.hot.renew(self.question.conversation, self.token, round(ttl * 1000))

    def done(self) -> None:
        """The lock was released with the commit."""
        self.released = True
        self.services.renewals.remove(self)

    async def release(self, *, note: bytes = b"") -> None:
        """Give the lock back without a commit. Never raises: what cannot be released expires."""
        if self.released:
            return
        self.released = True
        self.services.renewals.remove(self)
        if self.checked is not None and not self.checked.done():
            self.checked.cancel()
        conversation = self.question.conversation
        try:
            if self.in_hot:
                await self.services.hot.release(conversation, self.token, intact=self.intact, note=note)
        except StoreUnavailable:
            self.services.hot_health.failed()
        try:
            if self.degraded and self.stored is not None:
                await self.services.state.unlock(conversation, self.token)
        except StoreUnavailable:
            pass


async def admit(services: Services, question: Question) -> Lease:
    """Get the lock or raise ApiError: 409 where the session is busy, 503 where a tier that must be there is not."""
    config = services.config.lock
    lease = Lease(services, question, f"{services.pod}:{question.step}:{question.fingerprint}")
    deadline = asyncio.get_running_loop().time() + (config.max_wait_s if config.on_conflict is OnConflict.WAIT else 0.0)
    claim = Claim(
        lease.token,
        question.fingerprint,
        question.request.mark_of_last_assistant(),
        round(config.ttl_s * 1000),
        round(config.renew_s * 1000),
    )
    while True:
        try:
            held = await _try(services, lease, claim)
        except BaseException:
            await lease.release()
            raise
        if held:
            services.renewals.add(lease)
            services.archiver.enter(question.conversation)
            return lease
        remaining = deadline - asyncio.get_running_loop().time()
        if remaining <= 0:
            services.metrics.refused.inc()
            services.tasks.start(_note(services, question), "note a refused step")
            raise busy()
        # A queue without order: whoever asks first after the release gets it, so the pauses are spread.
        await asyncio.sleep(min(remaining, random.uniform(0.02, 0.1)))  # noqa: S311 - spreading, not secrecy


async def _try(services: Services, lease: Lease, claim: Claim) -> bool:
    conversation = lease.question.conversation
    if services.hot_health.ready:
        if lease.checked is None:
            lease.checked = services.tasks.start(services.state.versions(conversation), "read the item's versions")
            # Whether anyone comes to fetch a failure depends on what the hot tier says.
            lease.checked.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            begun = await services.hot.begin(conversation, claim)
        except StoreUnavailable as error:
            services.hot_health.failed()
            lease.in_hot = not error.definite
        else:
            services.hot_health.worked()
            if isinstance(begun, Busy):
                lease.checked.cancel()
                lease.checked = None
                return False
            lease.begun = begun
            if begun.took_over:
                services.metrics.takeovers.inc()
            return True
    else:
        lease.in_hot = False
    return await _degrade(services, lease)


async def _degrade(services: Services, lease: Lease) -> bool:
    if services.config.on_hot_unavailable is HotUnavailable.REFUSE:
        raise memory_unavailable("hot tier")
    services.metrics.degraded.inc()
    try:
        lease.stored = await services.state.lock(lease.question.conversation, lease.token, services.config.lock.ttl_s)
    except Locked:
        return False
    except StoreUnavailable:
        # Hydrate decides what a state tier that cannot be reached means.
        lease.stored = None
    return True


async def _note(services: Services, question: Question) -> None:
    try:
        await services.hot.note(question.conversation, question.note("refused", services.now()))
    except StoreUnavailable:
        services.hot_health.failed()
