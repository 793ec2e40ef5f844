"""What is sealed opens with its own key and context, and with nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.archive.keys import NONCE_BYTES, SubjectKey
from agentmemory_sidecar.archive.sealing import NotOurs, open_sealed, seal

KEY = SubjectKey("user:anna", 1, b"k" * 32)
OTHER = SubjectKey("user:ben", 1, b"o" * 32)


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_sealed_opens_again_and_is_the_same_each_time(plain: bytes, context: bytes) -> None:
    sealed = seal(KEY, plain, context)

    assert open_sealed(KEY, sealed, context) == plain
    assert seal(KEY, plain, context) == sealed
    assert len(sealed) == NONCE_BYTES + len(plain) + 16


def test_nonce_differs_for_every_other_value_context_or_key() -> None:
    nonces = {
        seal(key, plain, context)[:NONCE_BYTES]
        for key in (KEY, OTHER)
        for plain, context in ((b"a", b"bc"), (b"ca", b"b"), (b"", b"bca"), (b"a", b""))
    }

    assert len(nonces) == 8


@pytest.mark.parametrize("place", [0, NONCE_BYTES, -1])
def test_changed_bytes_do_not_open(place: int) -> None:
    sealed = bytearray(seal(KEY, b"a secret", b"context"))
    sealed[place] ^= 1

    with pytest.raises(NotOurs):
        open_sealed(KEY, bytes(sealed), b"context")


def test_other_keys_contexts_and_rubbish_do_not_open() -> None:
    sealed = seal(KEY, b"a secret", b"context")

    for key, data, context in (
        (OTHER, sealed, b"context"), (KEY, sealed, b"other"), (KEY, b"", b"context"), (KEY, sealed[:15], b"context"),
    ):  # fmt: skip
        with pytest.raises(NotOurs):
            open_sealed(key, data, context)
