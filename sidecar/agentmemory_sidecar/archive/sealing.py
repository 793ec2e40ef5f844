"""AES-256-GCM for one data subject.

The nonce is derived from the key, the associated data and the plaintext (keyed BLAKE2b of 96 bits), so sealing the same
value again gives the same bytes: a retry writes the same blob under the same name, and no counter must be kept. Two
different values get independent nonces, as random ones would be.
"""

from functools import lru_cache
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentmemory_sidecar.archive.keys import NONCE_BYTES, SubjectKey


class NotOurs(Exception):
    """Sealed bytes that this key and context do not open: another subject's, or changed."""


@lru_cache(maxsize=256)
def _cipher(secret: bytes) -> AESGCM:
    return AESGCM(secret)


def seal(key: SubjectKey, plaintext: bytes, context: bytes) -> bytes:
    """Nonce and ciphertext. ``context`` is authenticated with it and must be given again to open it."""
    derived = blake2b(len(context).to_bytes(8, "big"), digest_size=NONCE_BYTES, key=key.secret, person=b"nonce")
    derived.update(context)
    derived.update(plaintext)
    nonce = derived.digest()
    return nonce + _cipher(key.secret).encrypt(nonce, plaintext, context)


def open_sealed(key: SubjectKey, sealed: bytes, context: bytes) -> bytes:
    """Raises ``NotOurs``."""
    try:
        return _cipher(key.secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
    except (InvalidTag, ValueError) as error:
        raise NotOurs("these bytes were not sealed with this subject's key, or were changed") from error
