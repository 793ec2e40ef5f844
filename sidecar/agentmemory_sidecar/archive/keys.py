"""Data keys: one for each data subject and generation. Whoever destroys the key has erased the person.

``LocalKeyStore`` keeps them in a directory, wrapped by a master key in the same directory: right for a laptop and for
tests. The pods of a resource share theirs by :mod:`.shared_keys`.
"""

import asyncio
import base64
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12


class KeyUnavailable(Exception):
    """The key store cannot give this key. Nothing may be sealed or opened."""


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """A data key. ``generation`` rises when a subject comes back after an erasure."""

    subject: str
    generation: int
    secret: bytes


class KeyStore(Protocol):
    async def key(self, tenant: str, subject: str) -> SubjectKey:
        """The subject's newest key, made if there is none. Raises KeyUnavailable."""
        ...

    async def find(self, tenant: str, subject: str, generation: int) -> SubjectKey | None:
        """The key of this generation; None when it was destroyed or never made. Raises KeyUnavailable."""
        ...


class LocalKeyStore:
    """Keys as files of mode 0600 below ``directory``, made under exclusive names, so that two processes agree."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cache: dict[tuple[str, str], SubjectKey] = {}
        self._master: AESGCM | None = None

    async def key(self, tenant: str, subject: str) -> SubjectKey:
        if (cached := self._cache.get((tenant, subject))) is not None:
            return cached
        return await asyncio.to_thread(self._guarded, tenant, subject)

    async def find(self, tenant: str, subject: str, generation: int) -> SubjectKey | None:
        if (tenant, subject) not in self._cache and not self._path(tenant, subject).exists():
            return None
        found = await self.key(tenant, subject)
        return found if found.generation == generation else None

    def _guarded(self, tenant: str, subject: str) -> SubjectKey:
        try:
            key = self._load_or_make(tenant, subject)
        except (OSError, ValueError, KeyError, InvalidTag) as error:
            raise KeyUnavailable(
                f"the key directory {self._directory} cannot be used: {type(error).__name__}"
            ) from error
        self._cache[tenant, subject] = key
        return key

    def _path(self, tenant: str, subject: str) -> Path:
        return self._directory / (hashlib.sha256(f"{tenant}\0{subject}".encode()).hexdigest()[:40] + ".json")

    def _load_or_make(self, tenant: str, subject: str) -> SubjectKey:
        path = self._path(tenant, subject)
        master = self._open_master()
        bound = f"{tenant}\0{subject}".encode()
        if not path.exists():
            nonce = os.urandom(NONCE_BYTES)
            wrapped = nonce + master.encrypt(nonce, os.urandom(KEY_BYTES), bound)
            text = json.dumps({"subject": subject, "generation": 1, "key": base64.b64encode(wrapped).decode()})
            _create(path, text.encode())
        stored = json.loads(path.read_bytes())
        wrapped = base64.b64decode(stored["key"])
        secret = master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], bound)
        return SubjectKey(subject, int(stored["generation"]), secret)

    def _open_master(self) -> AESGCM:
        if self._master is None:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._directory / "master.key"
            if not path.exists():
                _create(path, os.urandom(KEY_BYTES))
            self._master = AESGCM(path.read_bytes())
        return self._master


def _create(path: Path, data: bytes) -> None:
    """Write a file whole and durable, or leave the one that another process made first."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
    finally:
        os.unlink(name)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
