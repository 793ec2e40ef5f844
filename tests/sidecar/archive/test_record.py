"""Records: clear header, sealed payload, one chain."""

import pytest

from agentmemory_sidecar.archive.keys import SubjectKey
from agentmemory_sidecar.archive.record import (
    Header,
    Payload,
    encode,
    hash_of,
    header_of,
    key_of,
    payload_of,
    prefix_of,
)
from agentmemory_sidecar.archive.sealing import NotOurs
from agentmemory_sidecar.stores.protocols import Conversation

KEY = SubjectKey("user:anna", 1, b"k" * 32)
HEADER = Header(
    v=1, kind="step", tenant="t", subject="user:anna", generation=1, session="s", agent="root", region="r", seq=7,
    prev="h", at=1.5, turn=3, version=4,
)  # fmt: skip


def test_record_opens_with_its_key_alone() -> None:
    payload = Payload(step="a", model="m", response={"content": [{"text": "heliotrope"}]}, usage={"output_tokens": 3})
    data = encode(HEADER, payload, KEY)

    assert header_of(data) == HEADER
    assert payload_of(data, KEY).usage == {"output_tokens": 3}
    assert b"heliotrope" not in data
    with pytest.raises(NotOurs):
        payload_of(data, SubjectKey("user:anna", 1, b"o" * 32))


def test_header_and_payload_cannot_be_exchanged() -> None:
    one = encode(HEADER, Payload(step="a"), KEY)
    changed = one.replace(b'"seq":7', b'"seq":8')

    assert header_of(changed).seq == 8
    with pytest.raises(NotOurs):
        payload_of(changed, KEY)
    assert hash_of(changed) != hash_of(one)


def test_record_is_the_same_bytes_whoever_makes_it() -> None:
    assert encode(HEADER, Payload(step="a"), KEY) == encode(HEADER, Payload(step="a"), KEY)


def test_keys_sort_by_sequence_and_conversations_do_not_meet() -> None:
    here, sub = Conversation("t", "s"), Conversation("t", "s", "a1")
    keys = [key_of("t", "user:anna", here, "r", seq) for seq in (1, 9, 10, 100)]

    assert keys == sorted(keys)
    assert keys[0] == "t/user%3Aanna/s/r/000000000001"
    prefixes = [
        prefix_of("t", "user:anna", one) for one in (here, sub, Conversation("t", "s@a1"), Conversation("t", "s/r"))
    ]
    assert len(set(prefixes)) == 4
    assert not any(a.startswith(b) for a in prefixes for b in prefixes if a != b)
