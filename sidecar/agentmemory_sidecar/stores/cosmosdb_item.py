"""A state item as CosmosDB holds it, and what a write, a lock or an unlock makes of it: documents in, documents out.

There is one condition on a write, that the document is still the one that was looked at (its ETag). Whether that one has the
versions that the writer expects is decided here, from the document.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentmemory_sidecar.stores.protocols import ABSENT, OtherHead, Stored, Versions

Document = Mapping[str, Any]

CHUNK_BYTES = 700_000
"""As base64 with its ids a chunk stays below 1 MiB, above which aiohttp warns, and far below the 2 MB of an item."""
LOCKED_ONLY_S = 24 * 3600
"""How long an item lives that was locked but never written."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a write wants."""

    body: bytes
    expect: Versions
    new: Versions
    pending: str
    """The mark of an outbox that is not empty; empty for one that is."""
    token: str
    ttl_s: int | None


def expired(document: Document, now: float) -> bool:
    return float(document.get("expires", now + 1)) <= now


def versions_of(document: Document | None, now: float) -> Versions:
    """An item's versions; ``ABSENT`` for none and for one past its expiry."""
    if document is None or expired(document, now):
        return ABSENT
    return Versions(int(document["turn"]), int(document["version"]))


def matches(document: Document | None, commit: Commit, now: float) -> bool:
    """Whether the item is what the write expects, its lock aside.

    A write that expects nothing may write upon an item that is only locked, but not with the versions that the lock gave:
    the lock's holder expects those, and would undo it.
    """
    if commit.expect != ABSENT:
        return document is not None and versions_of(document, now) == commit.expect
    if document is None or expired(document, now):
        return True
    return "written" not in document and versions_of(document, now) != commit.new


def committed(document: Document | None, commit: Commit, now: float) -> dict[str, Any]:
    """The item after the write. Its lock goes where it is the token's, and stays where it is another's."""
    made: dict[str, Any] = {
        "turn": commit.new.turn,
        "version": commit.new.version,
        "body": text(commit.body),
        "written": True,
    }
    if commit.pending:
        made["pending"] = commit.pending
    if document is not None and not expired(document, now) and not (commit.token and free(document, commit.token)):
        made |= _lock_of(document)
    return made if commit.ttl_s is None else made | _expiry(int(now) + commit.ttl_s, now)


def locked(document: Document | None, token: str, ttl_s: float, now: float) -> dict[str, Any]:
    """The item after the lock was taken or renewed. Of one past its expiry only the version goes on, so that none comes
    twice."""
    lock = {"lock_token": token, "lock_until": now + ttl_s}
    if document is None or expired(document, now):
        version = int(document["version"]) + 1 if document else 1
        return {"turn": 0, "version": version} | lock | _expiry(int(now) + LOCKED_ONLY_S, now)
    kept = _own(document) | lock | {"version": int(document["version"]) + 1}
    return kept | _expiry(document["expires"], now) if "expires" in document else kept


def unlocked(document: Document, now: float) -> dict[str, Any]:
    kept = {name: value for name, value in _own(document).items() if name not in ("lock_token", "lock_until")}
    return kept | _expiry(document["expires"], now) if "expires" in document else kept


def holder_of(document: Document) -> str:
    return str(document.get("lock_token", ""))


def free(document: Document, token: str) -> bool:
    """Whether the lock is nobody's, or this token's."""
    return holder_of(document) in ("", token)


def held(document: Document | None, token: str, now: float) -> float:
    """Seconds for which the item's lock is still somebody else's; 0 when it is free for this token."""
    if document is None or expired(document, now) or free(document, token):
        return 0.0
    return max(0.0, float(document["lock_until"]) - now)


def stored(
    document: Document | None, ledger: Mapping[str, bytes], now: float, others: Mapping[str, Document] | None = None
) -> Stored:
    """What a read answers. ``others`` are other regions' items by head."""
    alive = document is not None and not expired(document, now) and "body" in document
    body = data(document["body"]) if document is not None and alive else b""
    versions = with_others(versions_of(document, now), others or {}, now)
    found = (OtherHead(name, version, data((others or {})[name]["body"])) for name, version in versions.others)
    return Stored(versions, body, ledger, tuple(found))


def with_others(own: Versions, others: Mapping[str, Document], now: float) -> Versions:
    """The versions with those of other regions' items; one that was only locked, or is past its expiry, is none."""
    rows = ((name, others[name]) for name in sorted(others))
    known = tuple(
        (name, versions_of(row, now).version) for name, row in rows if "written" in row and not expired(row, now)
    )
    return replace(own, others=known) if known else own


def text(value: bytes) -> str:
    return b64encode(value).decode()


def data(value: str) -> bytes:
    return b64decode(value)


def pieces(value: bytes) -> list[bytes]:
    """The chunks of a value, at least one."""
    return [value[start : start + CHUNK_BYTES] for start in range(0, len(value), CHUNK_BYTES)] or [b""]


def _own(document: Document) -> dict[str, Any]:
    """The properties that are ours, but for where it lies and how long it lives."""
    names = ("turn", "version", "body", "written", "pending", "lock_token", "lock_until")
    return {name: document[name] for name in names if name in document}


def _lock_of(document: Document) -> dict[str, Any]:
    return {name: document[name] for name in ("lock_token", "lock_until") if name in document}


def _expiry(expires: float, now: float) -> dict[str, Any]:
    """CosmosDB counts ``ttl`` from the write."""
    return {"expires": int(expires), "ttl": max(1, int(expires - now) + 1)}
