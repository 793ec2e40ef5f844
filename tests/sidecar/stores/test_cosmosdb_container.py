"""Names as partition keys and ids."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.stores import cosmosdb_container as layout
from agentmemory_sidecar.stores.protocols import Conversation, StoreUnavailable

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(NAMES)
def test_encoded_names_come_back_and_hold_nothing_odd(name: str) -> None:
    assert layout.decode(layout.encode(name)) == name
    assert re.fullmatch(r"[A-Za-z0-9_~-]+", layout.encode(name))


@given(NAMES, NAMES, NAMES)
def test_keys_tell_what_they_are_of(tenant: str, session: str, agent: str) -> None:
    talk = Conversation(tenant, session, agent)
    assert layout.conversation(layout.partition(tenant, session), agent) == talk
    for kind, made in (("head", layout.head_id(agent, session)), ("ledger", layout.ledger_id(agent, session))):
        assert layout.split(made) == (agent, kind, session)
        low, high = layout.beside_range(agent)
        assert low <= made < high
    assert layout.index_row(layout.index_id(tenant, session)) == (tenant, session)


@given(NAMES, NAMES)
def test_a_walk_over_agents_skips_what_it_says_and_nobody_else(one: str, other: str) -> None:
    chunk, head, entry = layout.chunk_id(one, other, 7), layout.head_id(one, other), layout.ledger_id(one, other)
    assert chunk < layout.after(chunk) < head < layout.after(head) < entry < layout.after(entry)
    foreign = layout.chunk_id(other, one, 0)
    assert one == other or (foreign > entry) == (foreign > layout.after(entry))


def test_names_that_make_no_key_are_refused() -> None:
    with pytest.raises(StoreUnavailable, match="agent id and region too long for a key: 10") as told:
        layout.head_id("x" * 1023, "main")
    assert told.value.definite
