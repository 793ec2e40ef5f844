"""What all sidecars of a resource may spend in a day, on a real state tier."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from agentmemory_sidecar.step.budget import Budget
from agentmemory_sidecar.stores.postgres import PostgresOptions, PostgresStateStore, migrate

DAY = 86_400.0
LIMIT = 100_000


@pytest.fixture
async def state(database: str) -> AsyncIterator[PostgresStateStore]:
    options = PostgresOptions(database)
    await migrate(options)
    store = PostgresStateStore(options)
    yield store
    await store.close()


async def test_sidecars_together_never_take_more_than_the_limit(state: PostgresStateStore) -> None:
    tenant, now = uuid.uuid4().hex, [5 * DAY]
    sidecars = [Budget(tenant, LIMIT, lambda: now[0]) for _ in range(5)]

    async def spend(budget: Budget) -> int:
        taken = 0
        while await budget.take(state, 1_500):
            taken += 1_500
        return taken

    async with asyncio.TaskGroup() as group:
        spent = [group.create_task(spend(budget)) for budget in sidecars for _ in range(2)]
    total = sum(task.result() for task in spent)
    assert LIMIT - 5 * 2_000 <= total <= LIMIT
    now[0] += DAY
    assert await sidecars[0].take(state, LIMIT)
    assert not await sidecars[1].take(state, 1)


async def test_what_a_call_did_not_need_is_there_for_the_next(state: PostgresStateStore) -> None:
    budget = Budget(uuid.uuid4().hex, LIMIT, lambda: 5 * DAY)
    assert await budget.take(state, LIMIT)
    assert not await budget.take(state, 1)
    budget.give_back(10)
    assert await budget.take(state, 10)
    assert not await budget.take(state, 1)
