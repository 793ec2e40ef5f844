"""Admit: take the conversation's lock, and with the same call everything the hot tier knows.

The lock is politeness towards the user's bill; that no write is lost is decided at commit. So where the hot tier is gone
the lock moves to the state item (``Degraded``) or the step is refused, as the resource says.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmemory_sidecar.resource.ephemeral import HotUnavailable
from agentmemory_sidecar.resource.session import OnConflict
from agentmemory_sidecar.step.question import Question
from agentmemory_sidecar.step.recent import Recent
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

MOST_UNRELEASED = 1_000


@dataclass(eq=False, slots=True)
class Lease:
    """A held lock. ``begun`` None: the lock is on the state item, which ``stored`` then is."""

    services: Services
    question: Question
    token: str
    begun: Begun | None = None
    recent: Recent | None = None
    """What this process knows of the conversation; true only if ``begun`` says so."""
    stored: Stored | None = None
    checked: "asyncio.Future[Versions] | None" = None
    """The state tier's versions, asked for together with the lock."""
    in_hot: bool = False
    """Whether the hot tier may hold this lock (also when its answer was lost)."""
    on_item: bool = False
    """Likewise the state item."""
    released: bool = False
    intact: bool = True
    """Whether the state item is surely as it was before this step."""
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A renewal on the state item takes the lock anew if it is free: it must not cross the release."""
    outcome: str = "cancelled"
    """How the step ended, for its note in the archive."""

    @property
    def degraded(self) -> bool:
        return self.begun is None

    async def renew(self) -> None:
        ttl = self.services.config.lock.ttl_s
        if self.degraded:
            async with self.renewing:
                if not self.released:
                    await self.services.state.lock(self.question.conversation, self.token, ttl)
        else:
            await self.services.hot.renew(self.question.conversation, self.token, round(ttl * 1000))

    async def keep(self, entries: Mapping[str, bytes]) -> Stored | None:
        """Store ledger entries with the write of the item's lock: it raises ``version`` behind them, so that no hot copy
        made without knowing of them is taken for current. None where the lock is not ours any more. Raises
        StoreUnavailable."""
        async with self.renewing:
            try:
                ttl_s = self.services.config.lock.ttl_s
                return await self.services.state.lock(self.question.conversation, self.token, ttl_s, entries)
            except Locked:
                return None

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
        self.forget_check()
        await self.free(note=note)

    def forget_check(self) -> None:
        """The versions were read for a lock that was not got, or are not needed any more."""
        if self.checked is not None:
            self.checked.cancel()
            self.checked = None

    async def free(self, *, note: bytes = b"") -> None:
        """Take back every lock that this token may hold. Never raises."""
        conversation, unreleased = self.question.conversation, self.services.unreleased
        if self.in_hot or self.on_item:
            unreleased.add(self.token)
        try:
            if self.in_hot:
                await self.services.hot.release(conversation, self.token, intact=self.intact, note=note)
                self.in_hot = False
        except StoreUnavailable:
            self.services.hot_health.failed()
        try:
            if self.on_item:
                async with self.renewing:
                    await self.services.state.unlock(conversation, self.token)
                self.on_item = False
        except StoreUnavailable:
            pass
        if not self.in_hot and not self.on_item:
            unreleased.discard(self.token)
        elif len(unreleased) > MOST_UNRELEASED:
            unreleased.pop()


async def admit(services: Services, question: Question) -> Lease:
    """Get the lock or raise ApiError: 409 where the session is busy, 503 where a tier that must be there is not."""
    config = services.config.lock
    lease = Lease(services, question, f"{services.pod}:{question.step}:{question.fingerprint}")
    deadline = asyncio.get_running_loop().time() + (config.max_wait_s if config.on_conflict is OnConflict.WAIT else 0.0)
    lease.recent = recent = services.recents.get(question.conversation)
    claim = Claim(
        lease.token,
        question.fingerprint,
        question.request.mark_of_last_assistant(),
        round(config.ttl_s * 1000),
        round(config.renew_s * 1000),
        known=recent.token if recent else "",
        known_entries=len(recent.ledger) if recent else 0,
    )
    while True:
        try:
            held = await _try(services, lease, claim)
        except BaseException:
            await lease.release()
            raise
        if held:
            services.unreleased.discard(lease.token)
            services.renewals.add(lease)
            services.archiver.enter(question.conversation)
            return lease
        # One tier may have given its lock without our knowing, before the other one refused.
        await lease.free()
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
            reading = services.state.versions(conversation)
            if isinstance(reading, asyncio.Future):
                lease.checked = reading  # under way already
            else:
                lease.checked = services.tasks.start(reading, "read the item's versions", awaited=True)
        lease.in_hot = True
        try:
            begun = await services.hot.begin(conversation, claim)
            if isinstance(begun, Busy) and begun.holder in services.unreleased:
                # A tier that stood still and went on has done what an ended step had asked for.
                await services.hot.release(conversation, begun.holder, intact=False)
                services.unreleased.discard(begun.holder)
                begun = await services.hot.begin(conversation, claim)
        except StoreUnavailable as error:
            services.hot_health.failed()
            lease.in_hot = not error.definite
            lease.forget_check()
        else:
            services.hot_health.worked()
            if isinstance(begun, Busy):
                lease.in_hot = False
                lease.forget_check()
                return False
            lease.begun = begun
            if begun.took_over:
                services.metrics.takeovers.inc()
            return True
    return await _degrade(services, lease)


async def _degrade(services: Services, lease: Lease) -> bool:
    if services.config.on_hot_unavailable is HotUnavailable.REFUSE:
        raise memory_unavailable("hot tier")
    services.metrics.degraded.inc()
    conversation, ttl_s = lease.question.conversation, services.config.lock.ttl_s
    lease.on_item = True
    try:
        try:
            lease.stored = await services.state.lock(conversation, lease.token, ttl_s)
        except Locked as locked:
            if locked.holder not in services.unreleased:
                raise
            await services.state.unlock(conversation, locked.holder)
            services.unreleased.discard(locked.holder)
            lease.stored = await services.state.lock(conversation, lease.token, ttl_s)
    except Locked:
        lease.on_item = False
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
