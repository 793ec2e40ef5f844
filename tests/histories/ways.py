"""The ways from one sidecar to real stores: what goes wrong there goes wrong on a socket, where a TCP proxy can do it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.protocols import Conversation, Stored, Versions
from tests.faults import FaultProxy
from tests.histories.links import Link
from tests.histories.watch import Watcher

T = TypeVar("T")


class Way:
    """From one sidecar to one store."""

    def __init__(self, link: Link, name: str, proxy: FaultProxy) -> None:
        self._link, self._name, self._proxy = link, name, proxy

    async def call(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        return await self._link.send(f"{self._name}.{what}", request, self._proxy.lose_next_reply)


class Linked:
    """A store at the other end of a way."""

    def __init__(self, store: Any, way: Way, *, own: bool = False) -> None:
        """``own`` says that it is closed with this sidecar."""
        self._store, self._way, self._is_own = store, way, own

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*args: Any, **named: Any) -> Any:
            return await self._way.call(name, lambda: method(*args, **named))

        return call

    async def close(self) -> None:
        if self._is_own:
            await self._store.close()


class LinkedObjects(Linked):
    def keys(self, prefix: str) -> AsyncIterator[str]:
        found: AsyncIterator[str] = self._store.keys(prefix)
        return found


class Watching(Protocol):
    """Who wants to know what sidecars look at and write."""

    watcher: Watcher

    def means(self, head: str, conversation: Conversation, body: bytes, expect: Versions, new: Versions) -> None:
        """A sidecar is about to write this."""
        ...


class LinkedState(Linked):
    """Tells the watcher what it looks at, what it was told, and what it means to write."""

    def __init__(self, store: DynamoStateStore, way: Way, region: str, watch: "Watching") -> None:
        super().__init__(store, way)
        self.head, self._region, self._watch = store.head, region, watch

    async def versions(self, conversation: Conversation) -> Versions:
        self._looks(conversation)
        found: Versions = await self._way.call("versions", lambda: self._store.versions(conversation))
        self._watch.watcher.saw(self.head, conversation, found)
        return found

    async def read(self, conversation: Conversation) -> Stored:
        return await self._stored(conversation, "read", lambda: self._store.read(conversation))

    async def lock(self, conversation: Conversation, *args: Any, **named: Any) -> Stored:
        return await self._stored(conversation, "lock", lambda: self._store.lock(conversation, *args, **named))

    async def _stored(self, conversation: Conversation, what: str, request: Callable[[], Awaitable[Stored]]) -> Stored:
        self._looks(conversation)
        found = await self._way.call(what, request)
        self._watch.watcher.saw(self.head, conversation, found.versions)
        return found

    async def write(
        self, conversation: Conversation, body: bytes, *, expect: Versions, new: Versions, **named: Any
    ) -> None:
        self._watch.means(self.head, conversation, body, expect, new)
        await self._way.call(
            "write", lambda: self._store.write(conversation, body, expect=expect, new=new, **named)
        )  # fmt: skip

    async def add_entries(self, conversation: Conversation, entries: Mapping[str, bytes]) -> Any:
        return await self._way.call("entry", lambda: self._store.add_entries(conversation, entries))

    def _looks(self, conversation: Conversation) -> None:
        self._watch.watcher.looks(self._region, conversation)
