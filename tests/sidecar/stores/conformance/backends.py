"""The backends that the conformance suites run against, by name.

An entry is a function from the running test's request (through which it asks for the servers' fixtures) to an async
context manager that yields a :class:`Backend`.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import pytest

from agentmemory_sidecar.stores.protocols import ObjectStore, StateStore

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


StateBackends = dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Backend[StateStore]]]]
ObjectBackends = dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Backend[ObjectStore]]]]

STATE: StateBackends = {}
OBJECTS: ObjectBackends = {}
