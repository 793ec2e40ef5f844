"""What lies in the DynamoDB table, and under which keys. One table holds everything of a store.

    pk                            sk                              what
    <tenant>/<session>            <agent>#chunk#<name>#<n>        a piece of a large value
    <tenant>/<session>            <agent>#head#<head>             the state item that one endpoint writes
    <tenant>/<session>            <agent>#ledger#<key>            an injection, immutable
    index#<tenant>#<shard>        <subject>#<session>             which sessions belong to a data subject
    keys#<tenant>#<subject>       <generation>                    a wrapped sealing key (``data``; empty: destroyed)
    ping                          <AWS region>                    the operator's heartbeat, written in that region

Names are percent-encoded, so that neither ``/`` nor ``#`` can come from outside. One query from ``<agent>#head#`` on
gives item and ledger, in this order, which is why an item is never newer than the ledger it is read with. Items whose
outbox is not empty carry ``pending``, the hash key of the sparse index of the same name.

Attributes of a state item: ``turn`` and ``version`` (N), ``body`` (B, absent while the item exists only because it was
locked, and ``written`` (BOOL) with it, for who does not read the body), ``lock_token`` (S) and ``lock_until`` (N, epoch
seconds), ``pending`` (S), ``expires`` (N, epoch seconds, the table's TTL attribute). Of a heartbeat: ``run`` (S, the
operator's process), ``number`` (N, counted by it), ``at`` (N, epoch seconds by its clock) and ``expires``, a day later.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from agentmemory_sidecar.stores.protocols import Conversation, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

    from agentmemory_sidecar.layout.dynamodb import TableDefinition

INDEX_SHARDS = tuple("0123456789abcdef")
"""Parts of a tenant's subject index, so that no partition takes all of a tenant's new sessions."""
PENDING_SHARDS = tuple("0123")
"""Parts of a tenant's pending index. An index's partition takes about 1,000 changes a second."""
MAX_PK = 2048
MAX_SK = 1024


def encode(name: str) -> str:
    """A name as part of a key: only letters, digits, ``_.-~`` and ``%XX``."""
    return quote(name, safe="")


def partition(tenant: str, session: str) -> str:
    """The partition key of everything that belongs to one session."""
    return _fits(f"{encode(tenant)}/{encode(session)}", MAX_PK, "tenant and session id together")


def conversation(pk: str, agent: str) -> Conversation:
    """The inverse of :func:`partition`, with an agent as :func:`split` gives it."""
    tenant, _, session = pk.partition("/")
    return Conversation(unquote(tenant), unquote(session), agent)


def head_key(agent: str, head: str) -> str:
    return _fits(f"{encode(agent)}#head#{encode(head)}", MAX_SK, "agent id and region")


def ledger_key(agent: str, key: str) -> str:
    return _fits(f"{encode(agent)}#ledger#{encode(key)}", MAX_SK, "agent id and ledger key")


def chunk_key(agent: str, name: str, number: int) -> str:
    return _fits(f"{encode(agent)}#chunk#{encode(name)}#{number:06d}", MAX_SK, "agent id and chunk name")


def item_range(agent: str) -> tuple[str, str]:
    """First and last sort key of a conversation's heads and ledger; chunks lie before them."""
    return f"{encode(agent)}#head#", f"{encode(agent)}#ledger$"


def head_range(agent: str) -> tuple[str, str]:
    return f"{encode(agent)}#head#", f"{encode(agent)}#head$"


def ledger_range(agent: str) -> tuple[str, str]:
    return f"{encode(agent)}#ledger#", f"{encode(agent)}#ledger$"


def chunk_range(agent: str, name: str) -> tuple[str, str]:
    return f"{encode(agent)}#chunk#{encode(name)}#", f"{encode(agent)}#chunk#{encode(name)}$"


def split(sk: str) -> tuple[str, str, str]:
    """Agent, kind (``head``, ``ledger`` or ``chunk``) and the kind's own name of a sort key."""
    agent, kind, name = sk.split("#", 2)
    return unquote(agent), kind, unquote(name)


def after(sk: str) -> str:
    """Where a walk over the agents of a session goes on: past this agent's chunks, or its ledger."""
    agent, kind, _ = sk.split("#", 2)
    return {"chunk": f"{agent}#chunk$", "head": sk, "ledger": f"{agent}#ledger$"}[kind]


def shard(name: str, shards: tuple[str, ...]) -> str:
    """The shard of a name, the same in every process."""
    return shards[int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(shards)]


def index_partition(tenant: str, part: str) -> str:
    return _fits(f"index#{encode(tenant)}#{part}", MAX_PK, "tenant id")


def index_key(subject: str, session: str) -> str:
    return _fits(f"{encode(subject)}#{encode(session)}", MAX_SK, "subject and session id together")


def index_row(sk: str) -> tuple[str, str]:
    """The inverse of :func:`index_key`: subject and session."""
    subject, _, session = sk.partition("#")
    return unquote(subject), unquote(session)


def keys_partition(tenant: str, subject: str) -> str:
    return _fits(f"keys#{encode(tenant)}#{encode(subject)}", MAX_PK, "tenant and subject id together")


def generation_key(generation: int) -> str:
    return f"{generation:010d}"


def generation_of(sk: str) -> int:
    """The inverse of :func:`generation_key`."""
    return int(sk)


def pending_partition(tenant: str, head: str, part: str) -> str:
    return _fits(f"{encode(tenant)}#{encode(head)}#{part}", MAX_PK, "tenant id and region")


def _fits(key: str, limit: int, what: str) -> str:
    if len(key) > limit:  # encoded, so that a character is a byte
        reason = f"{what} too long for a key: {len(key)} bytes when percent-encoded, at most {limit}"
        raise StoreUnavailable("dynamodb", reason, definite=True)
    return key


def create_table(client: DynamoDBClient, definition: TableDefinition) -> None:
    """Make the table and wait until it is active, for laptops and tests; on a cluster the operator does it."""
    client.create_table(**definition.create)
    client.get_waiter("table_exists").wait(
        TableName=definition.create["TableName"], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    client.update_time_to_live(**definition.time_to_live)
    client.update_continuous_backups(**definition.backups)
