"""Blobs: values too big for the state item, sealed, named by what they are, in the blob store.

Where the blob store does not answer, they wait as chunk items in the state tier and are moved later: a turn never waits
for the blob store, and a link never points at nothing that was not written first.
"""

import hashlib
from collections.abc import Iterable

from agentmemory_sidecar.archive.keys import KeyStore, SubjectKey
from agentmemory_sidecar.archive.record import subject_prefix
from agentmemory_sidecar.archive.sealing import NotOurs, open_sealed, seal
from agentmemory_sidecar.stores.health import Cooldown
from agentmemory_sidecar.stores.protocols import Conversation, ObjectStore, StateStore, StoreUnavailable

_GENERATION = 4
"""Bytes before the sealed value that say which generation of the subject's key opens it."""


def _context(tenant: str, subject: str, generation: int) -> bytes:
    return f"blob\0{tenant}\0{subject}\0{generation}".encode()


class Drafts:
    """The blobs of one step: sealed as they are found, written before anything links to them."""

    def __init__(self, tenant: str, key: SubjectKey) -> None:
        self._prefix = subject_prefix(tenant, key.subject)
        self._context = _context(tenant, key.subject, key.generation)
        self._key = key
        self._unwritten: dict[str, bytes] = {}
        self._written: set[str] = set()
        self.waiting: list[str] = []
        """Keys that went to chunk items because the blob store did not answer."""

    def add(self, text: str) -> str:
        """Seal a value; returns its key."""
        sealed = self._key.generation.to_bytes(_GENERATION, "big")
        sealed += seal(self._key, text.encode("utf-8", "surrogatepass"), self._context)
        name = self._prefix + hashlib.sha256(sealed).hexdigest()
        if name not in self._written:
            self._unwritten[name] = sealed
        return name

    @property
    def keys(self) -> list[str]:
        return sorted({*self._written, *self._unwritten})

    async def write(self, blobs: ObjectStore, health: Cooldown, state: StateStore, conversation: Conversation) -> None:
        """Put what was added since the last call. Raises StoreUnavailable only if the state tier does not answer."""
        batch = dict(self._unwritten)
        if not batch:
            return
        if not await self._put(blobs, health, batch):
            for name, sealed in batch.items():
                await state.put_chunks(conversation, name, sealed)
                self.waiting.append(name)
        for name in batch:
            del self._unwritten[name]
        self._written |= batch.keys()

    async def _put(self, blobs: ObjectStore, health: Cooldown, batch: dict[str, bytes]) -> bool:
        if not health.ready:
            return False
        try:
            await blobs.put(batch)
        except StoreUnavailable:
            health.failed()
            return False
        return True


class BlobReader:
    """Finds and opens blobs, wherever they are."""

    def __init__(self, tenant: str, keys: KeyStore, blobs: ObjectStore, state: StateStore) -> None:
        self._tenant, self._keys, self._blobs, self._state = tenant, keys, blobs, state

    async def read(self, conversation: Conversation, subject: str, names: Iterable[str]) -> dict[str, str]:
        """The values by key. One that is missing, erased or not this subject's is left out: its summary stands in."""
        found: dict[str, str] = {}
        prefix = subject_prefix(self._tenant, subject)
        for name in names:
            sealed = await self._sealed(conversation, name) if name.startswith(prefix) else None
            if sealed is None:
                continue
            generation = int.from_bytes(sealed[:_GENERATION], "big")
            key = await self._keys.find(self._tenant, subject, generation)
            if key is None:
                continue
            try:
                text = open_sealed(key, sealed[_GENERATION:], _context(self._tenant, subject, generation))
            except NotOurs:
                continue
            found[name] = text.decode("utf-8", "surrogatepass")
        return found

    async def _sealed(self, conversation: Conversation, name: str) -> bytes | None:
        try:
            if (data := await self._blobs.get(name)) is not None:
                return data
        except StoreUnavailable:
            pass
        try:
            return await self._state.get_chunks(conversation, name)
        except StoreUnavailable:
            return None
