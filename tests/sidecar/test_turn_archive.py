"""Turns while the archive or the blob store is away: nothing waits for them, and nothing is lost."""

import asyncio
from collections.abc import Callable
from typing import Any

from agentmemory_sidecar.stores.protocols import Conversation
from tests.claude import StrictClaude
from tests.sidecar.agents import Agent
from tests.sidecar.stand import Stand
from tests.sidecar.tiers import Tiers


async def test_archive_that_is_away_delays_nothing_and_is_caught_up(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    it: Tiers = await tiers({"archive": {"timeout": "30s"}})
    it.archive.blackhole()  # worse than refusing: whoever waits for it would wait long
    agent = connect(it.stand)
    for number in range(3):
        await agent.good(f"Go on, {number}.")
    item = await it.stand.item(agent.session)
    assert len(item.outbox) == 3

    await it.archive.refuse()
    await it.archive.heal()
    await _carried(it.stand, agent.session)

    records = await it.stand.records(agent.session)
    assert [record["payload"]["messages"][0]["content"] for record in records] == [f"Go on, {n}." for n in range(3)]
    assert [record["seq"] for record in records] == [1, 2, 3]


async def _carried(stand: Stand, session: str) -> None:
    """Sweep until the outbox is empty, as the sidecar does every few seconds."""
    while (await stand.item(session)).pending:
        await stand.services.archiver.sweep()
        await asyncio.sleep(0.05)


async def test_big_values_wait_in_the_state_tier_for_the_blob_store(
    tiers: Callable[..., Any], connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    it: Tiers = await tiers()
    await it.archive.refuse()
    agent = connect(it.stand)
    big = "A long story. " * 20_000
    claude.script("I see.")
    await agent.good(big)

    item = await it.stand.item(agent.session)
    assert len((await it.stand.stored(agent.session)).body) < 50_000
    assert len(item.blobs) >= 1
    name = item.blobs[0]
    assert await it.stand.services.state.get_chunks(_root(it.stand, agent), name)

    await it.archive.heal()
    it.stand.services.blob_health.worked()
    await _carried(it.stand, agent.session)

    assert await it.stand.services.blobs.get(name)
    assert await it.stand.services.state.get_chunks(_root(it.stand, agent), name) is None
    (record,) = await it.stand.records(agent.session, export=True)
    assert record["payload"]["messages"][0]["content"] == big


def _root(stand: Stand, agent: Agent) -> Conversation:
    return Conversation(stand.config.tenant, agent.session)
