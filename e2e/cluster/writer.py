"""A writer: what it was told is safe must be found again, whatever a drill does meanwhile."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from e2e.cluster.agents import ask, ask_each
from e2e.cluster.shell import Failed
from e2e.cluster.wait import until

QUESTION = "What is the code word of the launch?"


@dataclass(slots=True)
class Writer:
    """Tells one fact after another, each in a session of its own."""

    namespace: str
    retries: int | None = None
    """How often the agent's SDK tries again; None for its own default, as an unmodified agent does."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Session to fact."""
    refused: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    """All flags of the receipts so far."""

    async def write(self) -> None:
        session, fact = f"w-{secrets.token_hex(6)}", secrets.token_hex(4)
        try:
            said = await ask(self.namespace, session, f"The code word of the launch is {fact}.", retries=self.retries)
        except Failed as error:
            self.refused.append(str(error)[-600:])
            return
        assert said.receipt, f"a turn of {session} went past the sidecar"
        self.flags.update(filter(None, said.receipt.get("x-agentmemory-flags", "").split(",")))
        self.acknowledged[session] = fact

    async def more(self, count: int = 3, timeout_s: float = 120) -> None:
        """Wait for turns that began after this call."""
        wanted = len(self.acknowledged) + count + 1

        async def look() -> bool:
            assert not self.refused, self.refused
            return len(self.acknowledged) >= wanted

        await until(f"{count} turns more", look, timeout_s=timeout_s)

    async def check(self) -> None:
        """Everything acknowledged is known, and something was."""
        assert self.acknowledged
        known = await ask_each(self.namespace, list(self.acknowledged), QUESTION)
        for (session, fact), said in zip(self.acknowledged.items(), known, strict=True):
            assert fact in said.answer, (session, fact, said)


@asynccontextmanager
async def writing(namespace: str, retries: int | None = None) -> AsyncIterator[Writer]:
    """A writer that goes on for as long as the block."""
    writer, stop = Writer(namespace, retries), asyncio.Event()

    async def go_on() -> None:
        while not stop.is_set():
            await writer.write()

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on())
        try:
            yield writer
        finally:
            stop.set()
