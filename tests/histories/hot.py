"""A model of Redis with the sidecar's scripts, and of the hot tier upon it. What each script does is told in ``stores/lua``;
here it is said once more, to be held against the same conformance suite."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from agentmemory_sidecar.stores.protocols import (
    Begun,
    Busy,
    Claim,
    Conversation,
    HotCopy,
    StoreUnavailable,
    Versions,
)
from tests.histories.links import Link

T = TypeVar("T")

MOST_NOTES = 100
DAY_S = 24 * 3600.0
ACKNOWLEDGE_EVERY_S = 0.25
RENEWAL_SLACK_MS = 5_000


@dataclass(slots=True)
class Copy:
    """A hot copy. ``dirty`` is the token of the step that made it so."""

    copy: HotCopy
    run: int
    writer: str
    dirty: str = ""


@dataclass(slots=True)
class Kept:
    """What lies under one conversation's keys, each with its end (seconds); absent where that is past."""

    lock: tuple[str, float] = ("", 0.0)
    hot: tuple[Copy | None, float] = (None, 0.0)
    ledger: tuple[dict[str, bytes], float] = field(default_factory=lambda: ({}, 0.0))
    ack: tuple[str, float] = ("", 0.0)
    notes: tuple[list[bytes], float] = field(default_factory=lambda: ([], 0.0))
    mark: float = 0.0


class ModelRedis:
    """One region's server: what it holds, and which run of the process it is."""

    def __init__(self, clock: Callable[[], float], *, hot_ttl_s: float = 900.0) -> None:
        self.clock, self.hot_ttl_s = clock, hot_ttl_s
        self.run = 1
        self.kept: dict[Conversation, Kept] = {}
        self.broken: list[str] = []
        """Locks that were freed or renewed by another than their holder."""

    def at(self, conversation: Conversation) -> Kept:
        kept = self.kept.get(conversation)
        if kept is None:
            kept = self.kept[conversation] = Kept()
        return kept

    def lose_all(self) -> None:
        """The process came back with nothing."""
        self.run += 1
        self.kept.clear()

    def restart(self) -> None:
        """A replica took over, or it came back from its disk: all is there, and all may be old."""
        self.run += 1

    def dump(self) -> dict[Conversation, Kept]:
        """What a snapshot would hold; no locks."""
        found = {}
        for conversation, kept in self.kept.items():
            copy, until = kept.hot
            hot = (Copy(copy.copy, copy.run, copy.writer, copy.dirty) if copy else None, until)
            ledger, notes = (dict(kept.ledger[0]), kept.ledger[1]), (list(kept.notes[0]), kept.notes[1])
            found[conversation] = Kept(("", 0.0), hot, ledger, kept.ack, notes, kept.mark)
        return found

    def load(self, dump: dict[Conversation, Kept]) -> None:
        """It came back with old data under the same name: the hardest case, for its run tells nothing."""
        self.kept = dump

    def locks(self) -> list[tuple[Conversation, str]]:
        """Locks that are held."""
        now = self.clock()
        return [(conversation, kept.lock[0]) for conversation, kept in self.kept.items() if kept.lock[1] > now]

    # --------------------------------------------------------------------------------------------------------- scripts

    def holds(self, kept: Kept, token: str) -> bool:
        """Whether the lock is this token's."""
        return kept.lock[1] > self.clock() and kept.lock[0] == token

    def begin(self, conversation: Conversation, claim: Claim) -> Begun | Busy:
        kept, now = self.at(conversation), self.clock()
        took_over = False
        holder, until = kept.lock
        if until > now:
            left = (until - now) * 1000
            late = claim.ttl_ms - claim.renew_ms - RENEWAL_SLACK_MS
            if holder.startswith("reserved "):
                if not claim.extends or f" {claim.extends} " not in f"{holder} ":
                    return Busy("reserved", round(left))
            elif claim.request and holder.endswith(f":{claim.request}") and left < late:
                took_over = True
            else:
                return Busy(holder, max(round(left), 0))
        kept.lock = (claim.token, now + claim.ttl_ms / 1000)
        begun = self._snapshot(kept, claim.known, claim.known_entries, took_over=took_over)
        copy, end = kept.hot
        if begun.copy is not None and copy is not None:
            copy.dirty = claim.token
        elif copy is not None and end > now:
            kept.hot = (None, 0.0)
        return begun

    def peek(self, conversation: Conversation, *, compaction: bool) -> Begun:
        kept = self.at(conversation)
        if compaction:
            kept.mark = self.clock() + DAY_S
        return self._snapshot(kept, "", 0)

    def _snapshot(self, kept: Kept, known: str, entries: int, *, took_over: bool = False) -> Begun:
        now = self.clock()
        ledger = kept.ledger[0] if kept.ledger[1] > now else {}
        copy = kept.hot[0] if kept.hot[1] > now else None
        trusted = copy is not None and not copy.dirty and copy.run == self.run and len(ledger) >= copy.copy.entries
        told, same = None, False
        if copy is not None and trusted:
            same = bool(known) and copy.writer == known and len(ledger) == entries
            told = HotCopy(copy.copy.versions, b"", copy.copy.entries) if same else copy.copy
        return Begun(
            copy=told,
            ledger={} if same else dict(ledger),
            notes=list(kept.notes[0]) if kept.notes[1] > now else [],
            acknowledged=kept.ack[0] if kept.ack[1] > now else "",
            compacted=kept.mark > now,
            took_over=took_over,
            same=same,
        )

    def freeze(self, conversation: Conversation, key: str, entry: bytes) -> bytes:
        kept = self.at(conversation)
        ledger = self._ledger(kept)
        return ledger.setdefault(key, entry)

    def _ledger(self, kept: Kept) -> dict[str, bytes]:
        now = self.clock()
        ledger = kept.ledger[0] if kept.ledger[1] > now else {}
        kept.ledger = (ledger, now + DAY_S)
        return ledger

    def commit(
        self,
        conversation: Conversation,
        token: str,
        copy: HotCopy,
        entries: Mapping[str, bytes],
        reserve: str,
        noted: int,
    ) -> bool:
        kept, now = self.at(conversation), self.clock()
        if not self.holds(kept, token):
            kept.hot = (None, 0.0)
            return False
        plain = Versions(copy.versions.turn, copy.versions.version)
        kept.hot = (Copy(HotCopy(plain, copy.body, copy.entries), self.run, token), now + self.hot_ttl_s)
        if entries or kept.ledger[1] > now:
            self._ledger(kept).update(entries)
        kept.notes = (kept.notes[0][noted:], kept.notes[1])
        kept.mark = 0.0
        self._free(kept, token, f"reserved {reserve}" if reserve else "")
        return True

    def release(self, conversation: Conversation, token: str, *, intact: bool, note: bytes) -> bool:
        kept = self.at(conversation)
        mine = self.holds(kept, token)
        copy, _ = kept.hot
        if not intact:
            kept.hot = (None, 0.0)
        elif mine and copy is not None and copy.dirty == token:
            copy.dirty = ""
        if mine:
            self._free(kept, token)
        if note:
            self.note(conversation, note)
        return mine

    def _free(self, kept: Kept, token: str, instead: str = "") -> None:
        self._audit(kept, token, "freed")
        kept.lock = (instead, kept.lock[1] if instead else 0.0)

    def _audit(self, kept: Kept, token: str, what: str) -> None:
        if kept.lock[0] != token:
            self.broken.append(f"{token} {what} the lock of {kept.lock[0]}")

    def renew(self, conversation: Conversation, token: str, ttl_ms: int) -> bool:
        kept = self.at(conversation)
        if not self.holds(kept, token):
            return False
        self._audit(kept, token, "renewed")
        kept.lock = (token, self.clock() + ttl_ms / 1000)
        return True

    def note(self, conversation: Conversation, note: bytes) -> None:
        kept, now = self.at(conversation), self.clock()
        notes = kept.notes[0] if kept.notes[1] > now else []
        kept.notes = ([*notes, note][-MOST_NOTES:], now + DAY_S)

    def acknowledge(self, conversation: Conversation, step: str, ttl_ms: int) -> None:
        self.at(conversation).ack = (step, self.clock() + ttl_ms / 1000)

    def drop(self, conversation: Conversation) -> None:
        self.at(conversation).hot = (None, 0.0)


class ModelHotStore:
    """:class:`HotStore` of one sidecar."""

    def __init__(self, redis: ModelRedis, link: Link | None = None) -> None:
        self._redis, self._link = redis, link or Link()
        self._acknowledged: dict[Conversation, tuple[str, int]] = {}
        self._flush: asyncio.TimerHandle | None = None
        self._closed = False

    async def begin(self, conversation: Conversation, claim: Claim) -> Begun | Busy:
        answer: Begun | Busy = await self._call("begin", lambda: self._redis.begin(conversation, claim))
        waiting = self._acknowledged.get(conversation)
        if isinstance(answer, Begun) and waiting is not None:
            return Begun(
                answer.copy, answer.ledger, answer.notes, waiting[0], answer.compacted, answer.took_over, answer.same
            )
        return answer

    async def freeze(self, conversation: Conversation, key: str, entry: bytes) -> bytes:
        standing: bytes = await self._call("freeze", lambda: self._redis.freeze(conversation, key, entry))
        return standing

    async def commit(
        self,
        conversation: Conversation,
        token: str,
        copy: HotCopy,
        entries: Mapping[str, bytes],
        reserve: str = "",
        noted: int = 0,
    ) -> bool:
        self._acknowledged.pop(conversation, None)
        done: bool = await self._call(
            "commit", lambda: self._redis.commit(conversation, token, copy, entries, reserve, noted)
        )
        return done

    async def release(self, conversation: Conversation, token: str, *, intact: bool, note: bytes = b"") -> bool:
        done: bool = await self._call(
            "release", lambda: self._redis.release(conversation, token, intact=intact, note=note)
        )
        return done

    async def renew(self, conversation: Conversation, token: str, ttl_ms: int) -> bool:
        done: bool = await self._call("renew", lambda: self._redis.renew(conversation, token, ttl_ms))
        return done

    async def note(self, conversation: Conversation, note: bytes) -> None:
        await self._call("note", lambda: self._redis.note(conversation, note))

    async def peek(self, conversation: Conversation, *, compaction: bool = False) -> Begun:
        begun: Begun = await self._call("peek", lambda: self._redis.peek(conversation, compaction=compaction))
        return begun

    async def acknowledge(self, conversation: Conversation, step: str, ttl_ms: int) -> None:
        self._acknowledged[conversation] = (step, ttl_ms)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(ACKNOWLEDGE_EVERY_S, self._write_acknowledged)

    def _write_acknowledged(self) -> None:
        self._flush = None
        acknowledged, self._acknowledged = self._acknowledged, {}
        if not self._link.killed and "hot" not in self._link.down:
            for conversation, (step, ttl_ms) in acknowledged.items():
                self._redis.acknowledge(conversation, step, ttl_ms)

    async def drop(self, conversation: Conversation) -> None:
        await self._call("drop", lambda: self._redis.drop(conversation))

    async def ping(self) -> None:
        await self._call("ping", lambda: None)

    async def close(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._write_acknowledged()
        self._closed = True

    async def _call(self, name: str, effect: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailable("redis", "closed", definite=True)
        return await self._link.call(f"hot.{name}", effect)
