"""Keys, without a server."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmemory_sidecar.stores import dynamodb_table as keys
from agentmemory_sidecar.stores.protocols import Conversation, StoreUnavailable

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
AMBIGUOUS = st.text(st.sampled_from("/#%$!~a"), min_size=1, max_size=6)
"""Made of what separates keys and bounds ranges."""
ANY = st.one_of(NAMES, AMBIGUOUS)


JOINTS = st.sampled_from(["/", "#", "#head#", "#ledger#", "#chunk#", "%", "%2F", "%23", "$", ""])


@settings(deadline=None)
@given(ANY, ANY, ANY, JOINTS)
def test_no_two_names_share_a_key(a: str, b: str, c: str, joint: str) -> None:
    """Names that join to the same whole in several ways find a separator that is missing or can come from outside."""
    whole = a + joint + b
    pairs = {(whole, c), (a, b + joint + c), (whole, b + joint + c), (a, c), (b, c), (quote(whole, safe=""), c)}
    for key in (keys.partition, keys.head_key, keys.ledger_key, keys.index_key):
        assert len({key(*pair) for pair in pairs}) == len(pairs)
    assert len({keys.chunk_key(*pair, 0) for pair in pairs}) == len(pairs)
    assert len({keys.pending_partition(*pair, "0") for pair in pairs}) == len(pairs)
    kinds = [keys.head_key(a + joint + b, c), keys.ledger_key(a, b + joint + c), keys.chunk_key(a, b + joint + c, 0)]
    assert len(set(kinds)) == len(kinds)


@settings(deadline=None)
@given(ANY, ANY, ANY, ANY)
def test_keys_can_be_read_back(tenant: str, session: str, agent: str, name: str) -> None:
    assert keys.conversation(keys.partition(tenant, session), agent) == Conversation(tenant, session, agent)
    assert keys.split(keys.head_key(agent, name)) == (agent, "head", name)
    assert keys.split(keys.ledger_key(agent, name)) == (agent, "ledger", name)
    assert keys.split(keys.chunk_key(agent, name, 7))[:2] == (agent, "chunk")
    assert keys.index_row(keys.index_key(name, session)) == (name, session)


@settings(deadline=None)
@given(ANY, ANY, ANY, JOINTS)
def test_no_range_reaches_into_another(agent: str, rest: str, name: str, joint: str) -> None:
    other, other_name = agent + joint + rest, name + joint + rest
    low, high = keys.item_range(agent)
    every = [
        (owner, kind, key)
        for owner in {agent, other}
        for kind, key in (
            ("head", keys.head_key(owner, name)),
            ("ledger", keys.ledger_key(owner, name)),
            ("chunk", keys.chunk_key(owner, name, 0)),
        )
    ]
    assert {(o, k) for o, k, key in every if low <= key <= high} == {(agent, "head"), (agent, "ledger")}
    low, high = keys.ledger_range(agent)
    assert {(o, k) for o, k, key in every if low <= key <= high} == {(agent, "ledger")}
    low, high = keys.chunk_range(agent, name)
    chunks = {keys.chunk_key(o, n, i): (o, n) for o in (agent, other) for n in (name, other_name) for i in (0, 999_999)}
    assert {owner for key, owner in chunks.items() if low <= key <= high} == {(agent, name)}


@settings(deadline=None)
@given(ANY, ANY, ANY)
def test_a_walk_over_agents_skips_no_head(agent: str, other: str, name: str) -> None:
    heads = sorted({keys.head_key(agent, name), keys.head_key(other, name)})
    for owner in (agent, other):
        last_head = keys.head_key(owner, name)
        assert keys.after(keys.chunk_key(owner, name, 3)) < last_head
        ended = keys.after(keys.ledger_key(owner, name))
        assert [head for head in heads if head > ended] == [head for head in heads if head > last_head]


@settings(deadline=None)
@given(ANY, ANY)
def test_the_index_never_lies_in_a_session(tenant: str, session: str) -> None:
    part = keys.shard(session, keys.INDEX_SHARDS)
    assert "/" not in keys.index_partition(tenant, part)
    assert "/" in keys.partition(tenant, session)


def test_every_shard_is_used_and_the_same_everywhere() -> None:
    assert {keys.shard(f"user-{number}", keys.INDEX_SHARDS) for number in range(500)} == set(keys.INDEX_SHARDS)
    assert {keys.shard(f"user-{number}", keys.PENDING_SHARDS) for number in range(100)} == set(keys.PENDING_SHARDS)
    assert keys.shard("usr_99ac2", keys.INDEX_SHARDS) == "0"  # stored keys depend on it


def test_names_too_long_for_a_key_are_named() -> None:
    with pytest.raises(StoreUnavailable, match="tenant and session id together too long for a key: 3003 bytes") as told:
        keys.partition("t", "é" * 500 + "x")
    assert told.value.definite
    assert keys.partition("t", "x" * 2046)
