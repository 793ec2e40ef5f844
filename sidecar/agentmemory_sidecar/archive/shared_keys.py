"""Data keys that all sidecars of a resource share, and that outlive each of them.

They lie in the state tier, each wrapped by the resource's master key, which lies elsewhere: neither opens anything alone.
The first writer of a generation wins, so that two pods which meet a new subject at once agree on its key.

Under an Eventual table each region sees its own writes first, and of two keys under one name a region's would silently be
lost with all that it had sealed. Each endpoint therefore makes generations of its own: the upper half of the number names
the endpoint, the lower half counts erasures.
"""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentmemory_sidecar.archive.keys import KEY_BYTES, NONCE_BYTES, KeyUnavailable, SubjectKey
from agentmemory_sidecar.stores.protocols import KeyShelf, StoreUnavailable, WrappedKey

_BY_MASTER = b"\x01"
"""The first byte of a wrapped key says how it is wrapped: here AES-256-GCM under the master key, nonce first."""
_COUNT = 0xFFFF
REMEMBERED = 10_000
"""Subjects whose keys are kept in memory."""
LOOK_AGAIN_S = 300.0
"""How long a key is used from memory: another sidecar may have destroyed it."""


class SharedKeyStore:
    """:class:`~.keys.KeyStore` on a shelf of the state tier. ``head`` is the state store's."""

    def __init__(
        self, shelf: KeyShelf, master: bytes, *, head: str = "main", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shelf, self._clock = shelf, clock
        self._master = AESGCM(master)
        self._first = first_generation(head)
        self._seen: OrderedDict[tuple[str, str], tuple[float, Sequence[WrappedKey]]] = OrderedDict()

    async def key(self, tenant: str, subject: str) -> SubjectKey:
        """As :meth:`KeyStore.key`: the one that seals now."""
        keys = self._remembered(tenant, subject)
        if sealing(keys) is None:
            keys = await self._looked_up(tenant, subject)
        if (newest := sealing(keys)) is not None:
            return self._open(tenant, subject, newest)
        generation = next_generation(keys, self._first)
        made = WrappedKey(generation, self._wrap(tenant, subject, generation, os.urandom(KEY_BYTES)))
        try:
            await self._shelf.put(tenant, subject, made)
        except StoreUnavailable as error:
            raise _unavailable(error) from error
        # Another endpoint's may have come meanwhile: all must choose among the same.
        newest = sealing(await self._looked_up(tenant, subject))
        if newest is None:
            raise KeyUnavailable("this subject is being erased")
        return self._open(tenant, subject, newest)

    async def find(self, tenant: str, subject: str, generation: int) -> SubjectKey | None:
        found = _of(generation, self._remembered(tenant, subject))
        if found is None:
            found = _of(generation, await self._looked_up(tenant, subject))
        return self._open(tenant, subject, found) if found is not None and found.data else None

    def _remembered(self, tenant: str, subject: str) -> Sequence[WrappedKey]:
        until, keys = self._seen.get((tenant, subject), (0.0, ()))
        return keys if self._clock() < until else ()

    async def _looked_up(self, tenant: str, subject: str) -> Sequence[WrappedKey]:
        try:
            keys = await self._shelf.keys(tenant, subject)
        except StoreUnavailable as error:
            raise _unavailable(error) from error
        self._seen[tenant, subject] = self._clock() + LOOK_AGAIN_S, keys
        self._seen.move_to_end((tenant, subject))
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return keys

    def _wrap(self, tenant: str, subject: str, generation: int, secret: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return _BY_MASTER + nonce + self._master.encrypt(nonce, secret, _bound(tenant, subject, generation))

    def _open(self, tenant: str, subject: str, key: WrappedKey) -> SubjectKey:
        form, nonce, wrapped = key.data[:1], key.data[1 : 1 + NONCE_BYTES], key.data[1 + NONCE_BYTES :]
        if form != _BY_MASTER:
            raise KeyUnavailable("a subject's key is wrapped in a way that this release does not know: use a newer one")
        try:
            secret = self._master.decrypt(nonce, wrapped, _bound(tenant, subject, key.generation))
        except (InvalidTag, ValueError) as error:
            raise KeyUnavailable(
                "a subject's key does not open with this master key: give the resource the one that it was made with"
            ) from error
        return SubjectKey(subject, key.generation, secret)


def first_generation(head: str) -> int:
    """The first generation that an endpoint makes: 1 where there is one endpoint, else with its name in the upper half."""
    if head == "main":
        return 1
    return int.from_bytes(hashlib.sha256(head.encode()).digest()[:2]) << 16 | 1


def sealing(keys: Sequence[WrappedKey]) -> WrappedKey | None:
    """The key that seals: of those since the last erasure the lowest, so that all who see the same choose the same.
    None where one must be made."""
    count = max((key.generation & _COUNT for key in keys), default=0)
    latest = [key for key in keys if key.generation & _COUNT == count]
    if not latest or not all(key.data for key in latest):
        return None
    return min(latest, key=lambda key: key.generation)


def next_generation(keys: Sequence[WrappedKey], first: int) -> int:
    """The generation to make where none seals; ``first`` is the endpoint's own first."""
    return first + max((key.generation & _COUNT for key in keys), default=0)


def _of(generation: int, keys: Sequence[WrappedKey]) -> WrappedKey | None:
    return next((key for key in keys if key.generation == generation), None)


def _bound(tenant: str, subject: str, generation: int) -> bytes:
    return f"key\0{tenant}\0{subject}\0{generation}".encode()


def _unavailable(error: StoreUnavailable) -> KeyUnavailable:
    return KeyUnavailable(f"the sealing keys are in the state tier, which is away: {error}")
