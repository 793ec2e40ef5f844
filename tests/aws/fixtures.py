"""``aws`` (function): a front over three regions whose processes all tests of a pytest process share, emptied first."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.aws.front import Front
from tests.aws.process import Ministack

REGIONS = ("us-east-1", "us-west-2", "us-east-2")


@pytest.fixture(scope="session")
def aws_processes(aws_credentials: None, ministack_directory: Path) -> Iterator[dict[str, str]]:
    """The URL of each region's process."""
    servers = {region: Ministack(ministack_directory / f"region-{region}") for region in REGIONS}
    try:
        asyncio.run(_start(list(servers.values())))
        yield {region: server.url for region, server in servers.items()}
    finally:
        for server in servers.values():
            server.kill()


async def _start(servers: list[Ministack]) -> None:
    await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))


@pytest.fixture
async def aws(aws_processes: dict[str, str]) -> AsyncIterator[Front]:
    """AWS, empty."""
    async with Front(aws_processes) as front:
        await front.reset()
        yield front
