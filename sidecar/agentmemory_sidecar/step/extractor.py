"""When turns are read: enough of them, or a pause; no more at once than is good; after a failure later and later.

Off the hot path: a commit only tells that there are unread turns. Who committed reads them; what a killed sidecar left, any
other finds in its sweep, a while later. Two that read the same turns at once are held apart by a lease in the hot tier
for the bill's sake, and by the condition of the write for the state's.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from agentmemory_sidecar.archive.keys import KeyUnavailable
from agentmemory_sidecar.memory.extraction.unread import AT_ONCE, day_of, due_at
from agentmemory_sidecar.memory.item import Item, UnknownFormat
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.resource.config import LearnerConfig
from agentmemory_sidecar.step import heads
from agentmemory_sidecar.step.budget import Budget
from agentmemory_sidecar.step.extract import Done, Learner, NotLearnt, extract, give_up
from agentmemory_sidecar.step.services import Services
from agentmemory_sidecar.stores.health import Cooldown
from agentmemory_sidecar.stores.protocols import Busy, Claim, Conversation, StoreUnavailable
from agentmemory_sidecar.tasks import Tasks

log = logging.getLogger(__name__)

AT_A_TIME = 4
"""Conversations whose turns one sidecar reads at the same time."""
OTHERS_S = 60.0
"""How much longer a sidecar waits before it reads what another one committed."""
REST_S, LONGEST_REST_S = 5.0, 600.0
"""Pauses after a failure that is not the turns' own: overload, deadline, a key that is refused."""
GIVE_UP_AFTER = 3
"""Answers that could not be used about one turn alone."""
MOST = 10_000
"""Conversations that are remembered; of the others the sweep tells again."""


@dataclass(slots=True)
class _Waiting:
    services: Services
    at: float
    """When they are due (seconds since the epoch)."""
    most: int = AT_ONCE
    failures: int = 0
    not_before: float = 0.0
    """A limit is reached until then."""
    running: bool = False
    news: float | None = None
    """When they are due because of a turn that ended while they were being read."""


@dataclass(slots=True)
class Extractor:
    """Reads the unread turns that it is told of. ``run`` until cancelled."""

    config: LearnerConfig
    learner: Learner
    budget: Budget
    metrics: Metrics
    now: Callable[[], float]
    _waiting: dict[tuple[str, Conversation], _Waiting] = field(default_factory=dict)
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _running: Tasks = field(default_factory=Tasks)
    _warned: dict[str, int] = field(default_factory=dict)
    """The day for which a reached limit was told."""
    _health: Cooldown = field(default_factory=lambda: Cooldown(REST_S, LONGEST_REST_S))

    def submit(self, services: Services, conversation: Conversation, item: Item, *, own: bool = True) -> None:
        """Note that a conversation has unread turns, or has none any more. Never waits. ``own``: committed here."""
        key = (services.state.head, conversation)
        known = self._waiting.get(key)
        due = due_at(item.unread, self.config.every_turns, self.config.idle_s)
        if due is None:
            if known is not None and not known.running:
                del self._waiting[key]
            return
        if known is None:
            if len(self._waiting) < MOST:
                self._waiting[key] = _Waiting(services, due if own else due + OTHERS_S)
        elif known.running:
            known.news = due
        elif own and not known.failures:
            known.at = max(due, known.not_before)
        self._told.set()
        self._count()

    async def run(self) -> None:
        """Read what is due, until cancelled."""
        try:
            while True:
                self._told.clear()
                pause = self._begin()
                try:
                    async with asyncio.timeout(pause):
                        await self._told.wait()
                except TimeoutError:
                    pass
        finally:
            await self._running.close()

    async def settled(self) -> None:
        """Wait until nothing is due and nothing is being read."""
        while True:
            self._begin()
            if not len(self._running):
                return
            await self._running.drain(60)

    def _begin(self) -> float | None:
        """Start what is due; returns how long there is nothing to start (seconds), None for ever."""
        if not self._health.ready:
            return REST_S
        now = self.now()
        for key, one in sorted(self._waiting.items(), key=lambda row: row[1].at):
            if one.running:
                continue
            if one.at > now:
                return one.at - now
            if len(self._running) >= AT_A_TIME:
                return None  # the next one that ends tells
            one.running = True
            self._running.start(self._read(key, one), "extract from turns")
        return None

    async def _read(self, key: tuple[str, Conversation], one: _Waiting) -> None:
        try:
            await self._step(key[1], one)
        except (StoreUnavailable, KeyUnavailable):
            self._failed(one, "store")
        except UnknownFormat:
            self._count_outcome("newer_form")
            one.at = self.now() + LONGEST_REST_S
        finally:
            one.running = False
            if one.news is not None:
                one.at = max(one.news if one.at < 0 else min(one.at, one.news), one.not_before)
                one.news = None
            if one.at < 0:
                self._waiting.pop(key, None)
            self._told.set()
            self._count()

    async def _step(self, conversation: Conversation, one: _Waiting) -> None:
        lease = await self._lease(one.services, conversation)
        if lease is None:
            one.at = self.now() + self.config.deadline_s
            return
        try:
            done = await extract(one.services, self.learner, self.budget, conversation, one.most)
        except NotLearnt as error:
            await self._not_learnt(conversation, one, error)
            return
        finally:
            await self._let_go(one.services, conversation, lease)
        self._health.worked()
        self._learnt(one, done)

    def _learnt(self, one: _Waiting, done: Done) -> None:
        self._count_outcome(done.outcome)
        self.metrics.extracted_turns.inc(done.turns)
        self.metrics.extraction_changes.labels("written").inc(done.changes)
        for rule in done.refused:
            self.metrics.extraction_changes.labels(rule).inc()
        due = due_at(done.unread, self.config.every_turns, self.config.idle_s)
        one.not_before = done.again_at
        one.at = NEVER if due is None else max(due, done.again_at)
        if done.outcome == "newer_form":
            one.at = self.now() + LONGEST_REST_S
        if done.outcome == "written":
            one.most, one.failures = AT_ONCE, 0
        if done.outcome in LIMITS and day_of(self.now()) != self._warned.get(done.outcome):
            self._warned[done.outcome] = day_of(self.now())
            log.warning("extraction: %s is reached, turns wait until tomorrow (UTC)", LIMITS[done.outcome])

    async def _not_learnt(self, conversation: Conversation, one: _Waiting, error: NotLearnt) -> None:
        if not error.of_the_turns:
            self._failed(one, error.reason, error.after_s)
            return
        # Perhaps one turn among them: each is read by itself, and of one that nothing is to be had about others go on.
        self._count_outcome(error.reason)
        one.failures += one.most == 1
        one.most, one.at = 1, self.now()
        if one.failures >= GIVE_UP_AFTER:
            await self._give_up(conversation, one, error.reason)

    async def _give_up(self, conversation: Conversation, one: _Waiting, reason: str) -> None:
        stored = await one.services.state.read(conversation)
        unread = heads.whole(one.services.config, one.services.state.head, stored).unread
        if unread:
            await give_up(one.services, conversation, unread[0].turn, reason)
            self._count_outcome("given_up")
        one.failures = 0
        due = due_at(unread[1:], self.config.every_turns, self.config.idle_s)
        one.at = NEVER if due is None else due

    def _failed(self, one: _Waiting, reason: str, after_s: float = 0.0) -> None:
        self._count_outcome(reason)
        self._health.failed()
        one.at = self.now() + max(after_s, REST_S)
        if reason == "deadline":
            one.most = max(1, one.most // 2)  # perhaps there was too much to be read in time
        log.warning("extraction: %s; its turns are read later", reason)

    async def _lease(self, services: Services, conversation: Conversation) -> str | None:
        """A token, empty where the hot tier is away; None where somebody else reads this conversation's turns."""
        token = f"{services.pod}:{secrets.token_hex(8)}:extract"
        ttl_ms = round(self.config.deadline_s * 1000) + 10_000
        try:
            found = await services.hot.begin(_lock_of(conversation), Claim(token, "", ttl_ms=ttl_ms))
        except StoreUnavailable:
            return ""
        return None if isinstance(found, Busy) else token

    async def _let_go(self, services: Services, conversation: Conversation, token: str) -> None:
        if token:
            try:
                await services.hot.release(_lock_of(conversation), token, intact=True)
            except StoreUnavailable:
                services.hot_health.failed()

    def _count(self) -> None:
        self.metrics.extraction_waiting.set(len(self._waiting))

    def _count_outcome(self, outcome: str) -> None:
        self.metrics.count(self.metrics.extractions, outcome)


NEVER = -1.0
LIMITS = {"limit": "limits.tokensPerDay", "session_limit": "limits.sessionTokensPerDay"}


def _lock_of(conversation: Conversation) -> Conversation:
    """What is locked while turns are read: never the conversation itself, whose steps go on."""
    return conversation._replace(agent=f"{conversation.agent}\x1fextraction")
