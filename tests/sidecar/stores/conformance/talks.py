"""Items for the cases of the state tier's suite."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

from agentmemory_sidecar.stores.protocols import (
    ABSENT,
    ROOT,
    Conversation,
    StateStore,
    Versions,
)


def fresh(session: str = "s", agent: str = ROOT) -> Conversation:
    """A conversation of a tenant that no other test has seen."""
    return Conversation(f"tenant-{uuid4().hex}", session, agent)


async def create(store: StateStore, talk: Conversation, body: bytes = b"one", *, pending: bool = False) -> None:
    await store.write(talk, body, expect=ABSENT, new=Versions(1, 1), pending=pending)


async def update(store: StateStore, talk: Conversation, body: bytes, step: int, *, pending: bool = False) -> None:
    """From versions (step - 1, step - 1) to (step, step)."""
    await store.write(talk, body, expect=Versions(step - 1, step - 1), new=Versions(step, step), pending=pending)


async def lasting(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds; the test's own time limit ends a wait in vain."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
