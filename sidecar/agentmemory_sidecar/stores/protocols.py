"""The three doors to storage: hot (lock and cache), state (the truth), objects (records and blobs, append-only).

An adapter moves bytes and compares integers. It knows nothing of turns, prompts or HTTP, opens no file of ours, and
retries no write: whether a write took effect is a question only the caller can answer (it looks for its own step id),
so a lost answer must reach it as :class:`StoreUnavailable` with ``definite=False``.

Deadlines belong to the adapter (seconds, given at construction): every call ends with a result or an exception by then.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

Sharing = Literal["project", "user"]
"""Whose state several sessions may share."""
_MARK = "\x1f"
ROOT = "root"
"""The agent name of a session's own conversation; a subagent's conversation carries the subagent's id."""


class StoreUnavailable(Exception):
    """A store did not answer, or answered that it cannot serve.

    ``definite`` says whether the call is known to have had no effect (refused connection, refused before sending). After
    a time-out or a cut connection it is False: the write may have happened.
    """

    def __init__(self, store: str, reason: str, *, definite: bool) -> None:
        super().__init__(f"{store}: {reason}")
        self.store = store
        self.reason = reason
        self.definite = definite


class StaleWrite(Exception):
    """A conditional write was refused because the item no longer has the versions that were expected."""


class AlreadyWritten(Exception):
    """An append-only key already holds other bytes."""


class Locked(Exception):
    """The state item's own lock (Degraded mode) is held by someone else."""

    def __init__(self, holder: str, seconds_left: float) -> None:
        super().__init__(f"held for {seconds_left:.0f} s more")
        self.holder = holder
        self.seconds_left = seconds_left


class Conversation(NamedTuple):
    """What has a lock, a window and a ledger of its own: one agent in one session of one tenant.

    A tuple, because it is a key some thirty times in each step: the hash of a dataclass is a call of Python each time.
    """

    tenant: str
    session: str
    agent: str = ROOT

    @classmethod
    def shared(cls, tenant: str, kind: Sharing, name: str) -> "Conversation":
        """Where the state of a project or user lies: an item like a session's, that nobody converses in. No request can name
        it, for the ids of requests hold no control characters."""
        return cls(tenant, f"{_MARK}{kind}{_MARK}{name}")

    @classmethod
    def internal(cls, tenant: str, kind: str, name: str) -> "Conversation":
        """Where sidecars keep something of their own for each other, that is nobody's state."""
        return cls(tenant, f"{_MARK}{kind}{_MARK}{name}")

    @property
    def is_session(self) -> bool:
        """Whether it is a session's, and not a project's or user's."""
        return not self.session.startswith(_MARK)

    @property
    def owner(self) -> str:
        """Whose state lies here, as a data subject: ``session:ID``, ``project:ID`` or ``user:ID``."""
        if self.is_session:
            return f"session:{self.session}"
        _, kind, name = self.session.split(_MARK, 2)
        return f"{kind}:{name}"


@dataclass(frozen=True, slots=True, order=True)
class Versions:
    """An item's two counters: ``turn`` rises with the conversation's own steps, ``version`` with every write."""

    turn: int = 0
    version: int = 0
    others: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    """Other regions' heads with their ``version``, by name, where a store has several. No condition speaks of them."""


ABSENT = Versions(0, 0)
"""The versions of an item that was never written."""


# ------------------------------------------------------------------------------------------------------------ hot tier


@dataclass(frozen=True, slots=True)
class Claim:
    """What a step presents to get its conversation's lock. Times in milliseconds."""

    token: str
    """Unique to this step: ``<pod>:<step id>:<request hash>``. Only the same token renews, releases or cleans."""
    request: str
    """The request hash, the token's last part: the same request may take over a lock that missed a renewal."""
    extends: str = ""
    """The chain hash of the request up to its last assistant message; opens a reservation made for it."""
    ttl_ms: int = 60_000
    renew_ms: int = 20_000
    known: str = ""
    """Token of the step whose hot copy the caller still has, with its whole ledger; empty for none."""
    known_entries: int = 0
    """How many ledger entries that are."""


@dataclass(frozen=True, slots=True)
class HotCopy:
    """The state item as the last commit left it, plus how many ledger entries belong to it."""

    versions: Versions
    body: bytes
    entries: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The lock was given. Everything else is what the hot tier knows, or None where it cannot be trusted."""

    copy: HotCopy | None
    """None unless the copy is clean, of this Redis primary's run, and its ledger is complete."""
    ledger: Mapping[str, bytes]
    """Entries by key, pending ones included; complete only when ``copy`` is not None."""
    notes: Sequence[bytes] = ()
    """Steps that failed or were refused since the last commit, for the archive; cleared by commit."""
    acknowledged: str = ""
    """Id of the newest step whose reply reached its client to the end."""
    compacted: bool = False
    """A compaction request was seen since the last commit."""
    took_over: bool = False
    same: bool = False
    """Copy and ledger are those that ``Claim.known`` names: ``copy`` is not None, but its body and ``ledger`` are empty."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The lock was refused."""

    holder: str
    """The holder's token, or ``reserved`` when the session waits for the next step of a turn."""
    ttl_ms: int


class HotStore(Protocol):
    """Lock, cache and ledger cache in Redis. Losing all of it loses nothing but speed.

    All keys of one session carry the hash tag ``{<tenant>/<session>}`` (both percent-encoded), and each has a TTL:
    ``lock:sess:{…}``, ``hot:sess:{…}``, ``ledger:sess:{…}``, ``ack:sess:{…}``, with ``:agent:<id>`` behind it for a
    subagent's. Every method raises :class:`StoreUnavailable`.
    """

    async def begin(self, conversation: Conversation, claim: Claim) -> Begun | Busy:
        """In one script: take the lock, mark the hot copy dirty with the claim's token, return everything.

        The lock is given when it is free, when it is reserved for ``claim.extends``, or when it is held for the same
        ``claim.request`` by a token that has missed a renewal (less than ``ttl_ms - renew_ms - 5 s`` left). A refusal
        changes nothing but the notes: ``note`` of a refused step is added by :meth:`note`.
        """
        ...

    async def freeze(self, conversation: Conversation, key: str, entry: bytes) -> bytes:
        """Keep a new ledger entry before its first send, for 24 hours; returns the one that stands for ``key``."""
        ...

    async def commit(
        self,
        conversation: Conversation,
        token: str,
        copy: HotCopy,
        entries: Mapping[str, bytes],
        reserve: str = "",
        noted: int = 0,
    ) -> bool:
        """In one script: write the hot copy clean, add ``entries`` to the ledger, clear the first ``noted`` notes and the
        compaction mark, release the lock (or, with ``reserve``, keep it until the lock's TTL for requests that extend that
        hash, or one of those hashes, parted by blanks).

        False when the lock is no longer this token's: then the hot copy is dropped, not written.
        """
        ...

    async def release(self, conversation: Conversation, token: str, *, intact: bool, note: bytes = b"") -> bool:
        """Release without a commit. ``intact`` says that the state item is surely unchanged, so that a copy made dirty
        by this token becomes clean again; otherwise it is dropped. False when the lock was no longer this token's."""
        ...

    async def renew(self, conversation: Conversation, token: str, ttl_ms: int) -> bool:
        """Extend the lock; False when it is no longer this token's."""
        ...

    async def note(self, conversation: Conversation, note: bytes) -> None:
        """Remember a step that was refused or failed (at most 100, for 24 hours)."""
        ...

    async def peek(self, conversation: Conversation, *, compaction: bool = False) -> Begun:
        """Read without the lock, for requests that are no turns. ``compaction`` leaves the compaction mark."""
        ...

    async def acknowledge(self, conversation: Conversation, step: str, ttl_ms: int) -> None:
        """Mark that the reply of this step reached its client to the end. Best effort."""
        ...

    async def drop(self, conversation: Conversation) -> None:
        """Forget the hot copy (never the lock): called by every writer of an item that is not a step."""
        ...

    async def ping(self) -> None:
        """Raise unless the store can serve a write."""
        ...

    async def close(self) -> None: ...


# ---------------------------------------------------------------------------------------------------------- state tier


@dataclass(frozen=True, slots=True)
class OtherHead:
    """The item of another region's endpoint, as this one's replica has it."""

    head: str
    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A state item with its ledger, as one consistent-enough read: the item is never newer than the ledger."""

    versions: Versions
    body: bytes
    """Empty when the item exists only because it was locked."""
    ledger: Mapping[str, bytes]
    others: tuple[OtherHead, ...] = ()
    """By name; none where the store has one head."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """One page of the subject → session index."""

    rows: Sequence[tuple[str, str]]
    """(subject, session) pairs, in the store's order."""
    next: str
    """Where the next page begins; empty at the end."""


class StateStore(Protocol):
    """The truth: items with two integer versions, written under a condition, one item for each region's head.

    Item address: (tenant, session, agent, head). Reads are strongly consistent within the head's endpoint. Every method
    raises :class:`StoreUnavailable`; the client library's own retries are off for writes.
    """

    head: str
    """The name of the item this endpoint writes: its region under eventual global tables, ``main`` elsewhere."""

    def versions(self, conversation: Conversation) -> "asyncio.Future[Versions] | Coroutine[Any, Any, Versions]":
        """The item's versions (``ABSENT`` for none), and the other heads': the cheap read that tells whether a hot copy is
        current."""
        ...

    async def read(self, conversation: Conversation) -> Stored:
        """Item and ledger. ``Stored(ABSENT, b"", {})`` for none, though ledger entries may exist without an item."""
        ...

    async def write(
        self,
        conversation: Conversation,
        body: bytes,
        *,
        expect: Versions,
        new: Versions,
        pending: bool,
        token: str = "",
        ttl_s: int | None = None,
        entries: Mapping[str, bytes] | None = None,
    ) -> None:
        """One conditional write: only if the item still has ``expect`` (``ABSENT``: none, or only locked).

        ``pending`` marks an item whose outbox still holds something, for :meth:`pending`. ``token`` also releases the
        item's own lock if it is this token's. ``ttl_s`` is the item's new lifetime; None keeps it for ever.
        ``entries`` are stored as by :meth:`add_entries`, before the item, and also where it is refused.
        Raises :class:`StaleWrite`.
        """
        ...

    async def add_entries(self, conversation: Conversation, entries: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Store ledger entries, immutable by key; returns those that stand (the first writer's)."""
        ...

    async def lock(
        self, conversation: Conversation, token: str, ttl_s: float, entries: Mapping[str, bytes] | None = None
    ) -> Stored:
        """Degraded mode: take the lock on the state item itself, by the store's clock where it has one, and read it.

        The write raises ``version`` (so that no hot copy of before is taken for current). With ``entries`` they are
        stored too. The holder of ``token`` may call it again, which also renews. Raises :class:`Locked`.
        """
        ...

    async def unlock(self, conversation: Conversation, token: str) -> None:
        """Release the item's own lock if it is this token's."""
        ...

    async def put_chunks(self, conversation: Conversation, name: str, data: bytes) -> None:
        """Keep a value of any size in pieces below the store's item limit. Same name and bytes again is fine."""
        ...

    async def get_chunks(self, conversation: Conversation, name: str) -> bytes | None: ...

    async def delete_chunks(self, conversation: Conversation, name: str) -> None: ...

    async def index(self, tenant: str, subject: str, session: str) -> None:
        """Note that this session belongs to this data subject. Idempotent."""
        ...

    async def sessions(self, tenant: str, *, subject: str = "", after: str = "", limit: int = 100) -> Sessions: ...

    async def agents(self, tenant: str, session: str) -> Sequence[str]:
        """The agents that have an item in this session, ``root`` first."""
        ...

    async def pending(self, tenant: str, limit: int = 100) -> Sequence[Conversation]:
        """Conversations whose outbox was not empty at their last write."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


# ------------------------------------------------------------------------------------------------- archive and blobs


class ObjectStore(Protocol):
    """Append-only objects by key: archive records in one, blobs in another. Every method raises StoreUnavailable."""

    async def put(self, objects: Mapping[str, bytes]) -> None:
        """Store each object unless its key exists. The same bytes again are fine; others raise AlreadyWritten."""
        ...

    async def get(self, key: str) -> bytes | None: ...

    def keys(self, prefix: str) -> AsyncIterator[str]:
        """Keys with this prefix, in byte order."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


# --------------------------------------------------------------------------------------------------------- sealing keys


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One generation of a data subject's sealing key, as the store has it."""

    generation: int
    """From 1 to 2**32 - 1."""
    data: bytes
    """Wrapped; empty for one that was destroyed, of which the generation remains."""


class KeyShelf(Protocol):
    """Where wrapped sealing keys lie, for all sidecars of a resource. Never the archive, which must not open itself.

    The shelf knows neither how keys are wrapped nor by whom. Every method raises :class:`StoreUnavailable`.
    """

    async def keys(self, tenant: str, subject: str) -> Sequence[WrappedKey]:
        """All generations of this subject, lowest first; what any client was told to be stored is among them."""
        ...

    async def put(self, tenant: str, subject: str, key: WrappedKey) -> WrappedKey:
        """Store this generation unless it is there; returns the one that stands (the first writer's)."""
        ...
