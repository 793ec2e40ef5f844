"""Archive records: one line of clear JSON that names and chains them, then the sealed payload.

The line is the payload's associated data, so neither can be exchanged. A record's hash covers all its bytes, and each
record names the hash before it: erasing a key makes payloads unreadable while the chain still verifies.
"""

import hashlib
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from agentmemory_sidecar.archive.keys import SubjectKey
from agentmemory_sidecar.archive.sealing import open_sealed, seal
from agentmemory_sidecar.stores.protocols import ROOT, Conversation

VERSION = 1
Kind = Literal["step", "patch", "failed", "refused"]


class Header(msgspec.Struct, frozen=True):
    """What a record says in clear. ``at`` is for people; order is ``seq`` and ``prev``."""

    v: int
    kind: Kind
    tenant: str
    subject: str
    generation: int
    session: str
    agent: str
    region: str
    seq: int
    prev: str
    at: float
    """Seconds since the epoch."""
    turn: int
    version: int
    """The item's versions that this record's write made."""
    blobs: list[str] = []


class Payload(msgspec.Struct, omit_defaults=True):
    """What is sealed. Content is absent for failed and refused steps."""

    step: str
    turn_id: str = ""
    request_class: str = ""
    model: str = ""
    prefix: str = ""
    """Mark of the client's messages before the new ones."""
    messages: list[Any] = []
    """Messages that are new since the record before, as the client sent them; big strings as links."""
    system: str = ""
    """Digest of the system prompt."""
    response: Any = None
    usage: dict[str, Any] = {}
    patch: Any = None
    injected: dict[str, Any] = {}
    latency_ms: dict[str, float] = {}
    outcome: str = ""
    """Why a step failed or was refused, or why nothing could be extracted."""
    extracted: dict[str, Any] = {}
    """Of an extraction: ``turns`` that were read, where each change came ``from``, and what was ``refused``."""


_header = msgspec.json.Encoder(order="sorted").encode
_payload = msgspec.json.Encoder().encode


def key_of(tenant: str, subject: str, conversation: Conversation, region: str, seq: int) -> str:
    return f"{prefix_of(tenant, subject, conversation)}{_quoted(region)}/{seq:012d}"


@lru_cache(maxsize=64)
def _quoted(text: str) -> str:
    return quote(text, safe="")


@lru_cache(maxsize=512)
def prefix_of(tenant: str, subject: str, conversation: Conversation) -> str:
    """Where a conversation's records lie. A subagent's chain is its own, beside the session's."""
    session = quote(conversation.session, safe="")
    if conversation.agent != ROOT:
        # "@" is percent-encoded in ids, so no session's name can look like a subagent's chain.
        session += "@" + quote(conversation.agent, safe="")
    return f"{subject_prefix(tenant, subject)}{session}/"


@lru_cache(maxsize=512)
def subject_prefix(tenant: str, subject: str) -> str:
    """Where all that belongs to one data subject lies."""
    return f"{quote(tenant, safe='')}/{quote(subject, safe='')}/"


def encode(header: Header, payload: Payload, key: SubjectKey) -> bytes:
    line = _header(header)
    return line + b"\n" + seal(key, _payload(payload), line)


def hash_of(record: bytes) -> str:
    return hashlib.sha256(record).hexdigest()


def header_of(record: bytes) -> Header:
    """Raises msgspec.DecodeError or ValidationError for bytes that are no record."""
    return msgspec.json.decode(record.partition(b"\n")[0], type=Header)


def payload_of(record: bytes, key: SubjectKey) -> Payload:
    """Raises ``NotOurs``."""
    line, _, sealed = record.partition(b"\n")
    return msgspec.json.decode(open_sealed(key, sealed, line), type=Payload)
