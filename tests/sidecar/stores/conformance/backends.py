"""The backends that the conformance suites run against, by name.

An entry is a function from a test's request to an async context manager that yields a :class:`Backend`. The function
itself runs outside the event loop: there it asks the request for the servers' fixtures, which start them.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest

from agentmemory_sidecar.stores.postgres import PostgresObjectStore, PostgresOptions, PostgresStateStore, migrate
from agentmemory_sidecar.stores.protocols import ObjectStore, StateStore
from tests.faults import FaultProxy

Store = TypeVar("Store", covariant=True)


class Backend(Protocol[Store]):
    """A store under test, a second client of it, and the faults that may befall them. All clients meet the faults."""

    @property
    def store(self) -> Store: ...

    def second(self) -> Store:
        """Another client of the same store, as another pod would have it; closed with the backend."""
        ...

    def outage(self) -> AbstractAsyncContextManager[None]:
        """The store cannot be reached inside, and can be again afterwards."""
        ...

    async def lose_next_answer(self) -> None:
        """From now on the first request is carried out by the store, but its answer never arrives; then all is well."""
        ...


Make = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Backend[Store]]]

Closable = TypeVar("Closable", bound=StateStore | ObjectStore)


class Proxied(Generic[Closable]):
    """A :class:`Backend` whose every client goes through one fault proxy.

    :param make: builds a client that reaches the store at the proxy's host and port.
    """

    def __init__(self, proxy: FaultProxy, make: Callable[[FaultProxy], Closable]) -> None:
        self._proxy = proxy
        self._make = make
        self._stores = [make(proxy)]

    @property
    def store(self) -> Closable:
        return self._stores[0]

    def second(self) -> Closable:
        self._stores.append(self._make(self._proxy))
        return self._stores[-1]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        await self._proxy.refuse()
        try:
            yield
        finally:
            await self._proxy.heal()

    async def lose_next_answer(self) -> None:
        self._proxy.lose_next_reply()

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@asynccontextmanager
async def proxied(
    target: tuple[str, int] | Path, make: Callable[[FaultProxy], Closable]
) -> AsyncIterator[Proxied[Closable]]:
    """The backend behind a proxy of its own to ``target``."""
    async with FaultProxy(target) as proxy:
        backend = Proxied(proxy, make)
        try:
            yield backend
        finally:
            await backend.close()


# ------------------------------------------------------------------------------------------------------------ postgres


def postgres_target(dsn: str) -> tuple[str, int] | Path:
    """Where the server of a DSN listens."""
    parts = urlsplit(dsn)
    if parts.hostname:
        return parts.hostname, parts.port or 5432
    return Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"


def postgres_options(dsn: str, proxy: FaultProxy) -> PostgresOptions:
    """The same database through the proxy."""
    parts = urlsplit(dsn)
    return PostgresOptions(f"postgresql://{parts.username}@{proxy.host}:{proxy.port}{parts.path}?sslmode=disable")


@asynccontextmanager
async def postgres(dsn: str, store: Callable[[PostgresOptions], Closable]) -> AsyncIterator[Proxied[Closable]]:
    """The database of the session's server, with tables; tests share it and keep apart by their tenants."""
    await migrate(dsn)
    async with proxied(postgres_target(dsn), lambda proxy: store(postgres_options(dsn, proxy))) as backend:
        yield backend


def postgres_state(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Backend[StateStore]]:
    return postgres(request.getfixturevalue("postgres_dsn"), PostgresStateStore)


def postgres_objects(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Backend[ObjectStore]]:
    return postgres(request.getfixturevalue("postgres_dsn"), lambda options: PostgresObjectStore(options, "records"))


STATE: dict[str, Make[StateStore]] = {"postgres": postgres_state}
OBJECTS: dict[str, Make[ObjectStore]] = {"postgres": postgres_objects}
