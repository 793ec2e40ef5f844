"""The fault tests can fail: each mistake put into the sidecar here is caught by them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.resource import SidecarConfig
from agentmemory_sidecar.step import commit, heads, hydrate
from agentmemory_sidecar.step.admit import Lease
from agentmemory_sidecar.stores.protocols import Conversation, Stored, Versions
from tests.claude import StrictClaude
from tests.sidecar.faults.checks import check, settle
from tests.sidecar.faults.driving import turn
from tests.sidecar.faults.stores import Kind
from tests.sidecar.faults.sweep import step_with_fault
from tests.sidecar.faults.world import Backend, World, open_backend, open_world


@pytest.fixture
async def backend(valkey_url: str, database: str, claude: StrictClaude) -> AsyncIterator[Backend]:
    async with open_backend(valkey_url, database, claude) as opened:
        yield opened


async def settled(world: World) -> None:
    await settle(world)
    await check(world)


async def fenced(backend: Backend) -> None:
    """A paused holder resumes after another step was committed."""
    await step_with_fault(backend, Kind.PAUSED_BEFORE, "state.write", 0)


async def answer_lost(backend: Backend) -> None:
    await step_with_fault(backend, Kind.LOST, "state.write", 0)


async def redis_with_old_data(backend: Backend) -> None:
    """Turns run without Redis, and it comes back as it was before."""
    async with open_world(backend) as world:
        agent = world.agent(thinking=False)
        await turn(world, agent, 'One. [[tool: note {"text": "one"}]][[then]][[say: Noted.]]')
        old = await world.dump_hot()
        await world.empty_hot()
        for node in world.nodes:
            node.faults.down.add("hot")
        await turn(world, agent, 'Two. [[tool: note {"text": "two"}]][[then]][[say: Noted.]]')
        await world.restore_hot(old)
        for node in world.nodes:
            node.faults.clear()
            node.sidecar.services.hot_health.worked()
        await turn(world, agent, "Three?")
        await settled(world)


SCENARIOS: dict[str, Callable[[Backend], Awaitable[None]]] = {
    "fenced": fenced,
    "answer_lost": answer_lost,
    "redis_with_old_data": redis_with_old_data,
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_holds_as_it_is(backend: Backend, scenario: Callable[[Backend], Awaitable[None]]) -> None:
    await scenario(backend)


async def test_no_version_check(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that overwrites whatever is there."""
    inner = backend.stores.state.write

    async def write(conversation: Conversation, body: bytes, *, expect: Versions, new: Versions, **how: Any) -> None:
        found = await backend.stores.state.versions(conversation)
        await inner(conversation, body, expect=found, new=new, **how)

    monkeypatch.setattr(backend.stores.state, "write", write)
    with pytest.raises(AssertionError, match="stands at place"):
        await fenced(backend)


async def test_lost_answer_taken_for_a_refusal(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The item is not looked through for the step's own id."""

    def without_steps(config: SidecarConfig, head: str, stored: Stored) -> Item:
        item = heads.whole(config, head, stored)
        item.steps = []
        return item

    monkeypatch.setattr(commit, "heads", SimpleNamespace(whole=without_steps, pack_copy=heads.pack_copy))
    with pytest.raises(AssertionError, match="turn_fenced"):
        await answer_lost(backend)


async def test_released_before_the_commit(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = commit._save

    async def save(
        services: Any, question: Any, memory: Any, injection: Any, reply: Any, decided: Any, lease: Lease
    ) -> Any:
        await services.hot.release(question.conversation, lease.token, intact=True)
        return await inner(services, question, memory, injection, reply, decided, lease)

    monkeypatch.setattr(commit, "_save", save)
    with pytest.raises(AssertionError):
        await overlapping(backend)


async def overlapping(backend: Backend) -> None:
    """While one step's item is being written, no other step gets the lock."""
    async with open_world(backend) as world:
        agent = world.agent()
        await turn(world, agent, "Begin.")
        rival = agent.twin()
        agent.ask("One?")
        rival.ask("Two?")
        seen: list[str] = []
        inner = backend.stores.state.write

        async def write(conversation: Conversation, body: bytes, **how: Any) -> None:
            backend.stores.state.write = inner  # type: ignore[method-assign]
            seen.append((await world.send(rival, world.nodes[1])).code)
            await inner(conversation, body, **how)

        backend.stores.state.write = write  # type: ignore[method-assign]
        attempt = await world.send(agent, world.nodes[0])
        assert seen == ["concurrent_process_active"]
        assert attempt.acknowledged
        await settled(world)


async def test_holds_the_lock_until_the_commit(backend: Backend) -> None:
    await overlapping(backend)


async def test_hot_copy_trusted_blindly(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Redis has is taken for current."""
    inner = hydrate._own

    async def own(services: Any, question: Any, lease: Lease) -> Any:
        known = hydrate._known(services, lease, lease.begun) if lease.begun is not None else None
        if lease.begun is not None and known is not None:
            assert lease.checked is not None
            await lease.checked
            if known.recent is not None:
                return hydrate._remembered(question, known.recent, dict(known.recent.ledger))
            entries = hydrate._entries(lease.begun.ledger)
            return hydrate._memory(services, question, known.stored, entries, hydrate.Tier.HOT)
        return await inner(services, question, lease)

    monkeypatch.setattr(hydrate, "_own", own)
    with pytest.raises(AssertionError, match="from the hot tier was used"):
        await redis_with_old_data(backend)
