"""What lies in the CosmosDB container, and under which ids. One container holds everything of a store.

    agentmemory (partition key)       id                              what
    session/<tenant>/<session>        <agent>.chunk.<name>.<n>        a piece of a large value
    session/<tenant>/<session>        <agent>.head.<head>             the state item that one endpoint writes
    session/<tenant>/<session>        <agent>.ledger.<key>            an injection, immutable
    index/<tenant>/<shard>            <subject>.<session>             which sessions belong to a data subject
    keys/<tenant>/<subject>           <generation>                    a wrapped sealing key (``data``; empty: destroyed)

Names are encoded, so that neither ``/`` nor ``.`` can come from outside, and an id holds none of the characters that
CosmosDB refuses or clients garble. Items whose outbox is not empty carry ``pending``, the one property that is indexed.

Properties of a state item: ``turn`` and ``version``, ``body`` (base64, absent while the item exists only because it was
locked, and ``written`` with it, for who does not read the body), ``lock_token`` and ``lock_until`` (epoch seconds),
``pending``, ``expires`` (epoch seconds, absent for what is kept for ever) and ``ttl``, by which CosmosDB deletes it.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

from agentmemory_sidecar.stores.protocols import Conversation, StoreUnavailable

INDEX_SHARDS = tuple("0123456789abcdef")
"""Parts of a tenant's subject index, so that no logical partition (20 GB at most) takes all of a tenant's sessions."""
MAX_PARTITION_KEY = 2048
MAX_ID = 1023


def encode(name: str) -> str:
    """A name as part of an id: only letters, digits, ``_-`` and ``~XX``."""
    return quote(name, safe="").replace("~", "%7E").replace(".", "%2E").replace("%", "~")


def decode(text: str) -> str:
    """The inverse of :func:`encode`."""
    return unquote(text.replace("~", "%"))


def partition(tenant: str, session: str) -> str:
    """The partition key of everything that belongs to one session."""
    return _fits(f"session/{encode(tenant)}/{encode(session)}", MAX_PARTITION_KEY, "tenant and session id together")


def conversation(partition_key: str, agent: str) -> Conversation:
    """The inverse of :func:`partition`, with an agent as :func:`split` gives it."""
    _, tenant, session = partition_key.split("/")
    return Conversation(decode(tenant), decode(session), agent)


def head_id(agent: str, head: str) -> str:
    return _fits(f"{encode(agent)}.head.{encode(head)}", MAX_ID, "agent id and region")


def ledger_id(agent: str, key: str) -> str:
    return _fits(f"{encode(agent)}.ledger.{encode(key)}", MAX_ID, "agent id and ledger key")


def chunk_id(agent: str, name: str, number: int) -> str:
    return _fits(f"{encode(agent)}.chunk.{encode(name)}.{number:06d}", MAX_ID, "agent id and chunk name")


def beside_range(agent: str) -> tuple[str, str]:
    """From (inclusive) and to (exclusive) of the ids of a conversation's heads and ledger; chunks lie before them."""
    return f"{encode(agent)}.head.", f"{encode(agent)}.ledger/"


def head_range(agent: str) -> tuple[str, str]:
    return f"{encode(agent)}.head.", f"{encode(agent)}.head/"


def ledger_range(agent: str) -> tuple[str, str]:
    return f"{encode(agent)}.ledger.", f"{encode(agent)}.ledger/"


EVERYTHING = ("-", "\x7f")
"""The range of all ids."""


def split(item_id: str) -> tuple[str, str, str]:
    """Agent, kind (``head``, ``ledger`` or ``chunk``) and the kind's own name of an id."""
    agent, kind, name = item_id.split(".", 2)
    return decode(agent), kind, decode(name)


def after(item_id: str) -> str:
    """Where a walk over the agents of a session goes on: past this agent's chunks, or its ledger."""
    agent, kind, _ = item_id.split(".", 2)
    return {"chunk": f"{agent}.chunk/", "head": f"{item_id}!", "ledger": f"{agent}.ledger/"}[kind]


def shard(name: str) -> str:
    """The shard of a name, the same in every process."""
    return INDEX_SHARDS[int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(INDEX_SHARDS)]


def index_partition(tenant: str, part: str) -> str:
    return _fits(f"index/{encode(tenant)}/{part}", MAX_PARTITION_KEY, "tenant id")


def index_id(subject: str, session: str) -> str:
    return _fits(f"{encode(subject)}.{encode(session)}", MAX_ID, "subject and session id together")


def index_range(subject: str) -> tuple[str, str]:
    return (f"{encode(subject)}.", f"{encode(subject)}/") if subject else EVERYTHING


def index_row(item_id: str) -> tuple[str, str]:
    """The inverse of :func:`index_id`: subject and session."""
    subject, _, session = item_id.partition(".")
    return decode(subject), decode(session)


def keys_partition(tenant: str, subject: str) -> str:
    return _fits(f"keys/{encode(tenant)}/{encode(subject)}", MAX_PARTITION_KEY, "tenant and subject id together")


def generation_id(generation: int) -> str:
    return f"{generation:010d}"


def pending_mark(tenant: str, head: str) -> str:
    return f"{encode(tenant)}/{encode(head)}"


def _fits(key: str, limit: int, what: str) -> str:
    if len(key) > limit:  # encoded, so that a character is a byte
        reason = f"{what} too long for a key: {len(key)} bytes when encoded, at most {limit}"
        raise StoreUnavailable("cosmosdb", reason, definite=True)
    return key
