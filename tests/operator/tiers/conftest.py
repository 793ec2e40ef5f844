"""Calls of AWS for the tiers that are kept there."""

from collections.abc import AsyncIterator

import pytest

from agentmemory_operator.aws import Aws


@pytest.fixture
async def calls() -> AsyncIterator[Aws]:
    made = Aws(threads=8)
    yield made
    await made.close()
