"""A model of S3 buckets that copy their objects to one another, after a while."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from agentmemory_sidecar.stores.protocols import AlreadyWritten, StoreUnavailable
from tests.histories.links import Link
from tests.histories.table import Timers

T = TypeVar("T")


@dataclass
class Buckets:
    """One bucket a region, by key."""

    regions: tuple[str, ...]
    timers: Timers
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    lag_s: float = 0.0
    objects: dict[str, dict[str, bytes]] = field(init=False)
    under_way: int = 0

    def __post_init__(self) -> None:
        self.objects = {region: {} for region in self.regions}

    def put(self, region: str, key: str, data: bytes) -> None:
        """Store an object unless its key exists."""
        standing = self.objects[region].get(key)
        if standing is not None:
            if standing != data:
                raise AlreadyWritten("another object has this key")
            return
        self.objects[region][key] = data
        for other in self.regions:
            if other != region:
                self.under_way += 1
                self.timers.call_later(self.rng.random() * self.lag_s, self._arrive, other, key, data)

    def _arrive(self, region: str, key: str, data: bytes) -> None:
        self.under_way -= 1
        self.objects[region].setdefault(key, data)


class ModelObjects:
    """:class:`ObjectStore` on a region's bucket."""

    def __init__(self, buckets: Buckets, region: str, name: str, link: Link | None = None) -> None:
        self._buckets, self._region, self._name = buckets, region, name
        self._link = link or Link()
        self._closed = False

    async def put(self, objects: Mapping[str, bytes]) -> None:
        for key, data in objects.items():
            await self._call("put", partial(self._buckets.put, self._region, key, data))

    async def get(self, key: str) -> bytes | None:
        found: bytes | None = await self._call("get", lambda: self._buckets.objects[self._region].get(key))
        return found

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        def effect() -> list[str]:
            found = [key for key in self._buckets.objects[self._region] if key.startswith(prefix)]
            return sorted(found, key=str.encode)

        for key in await self._call("keys", effect):
            yield key

    async def ping(self) -> None:
        await self._call("ping", lambda: None)

    async def close(self) -> None:
        self._closed = True

    async def _call(self, name: str, effect: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailable(self._name, "closed", definite=True)
        return await self._link.call(f"{self._name}.{name}", effect)
