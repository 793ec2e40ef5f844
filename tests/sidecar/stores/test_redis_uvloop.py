"""Faults under uvloop, the loop of production: its transports notice an end at other moments than asyncio's."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from redis.asyncio import Redis

from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey
from tests.servers import killable_valkeys
from tests.sidecar.stores import test_redis_links as links
from tests.sidecar.stores.hot_conformance import opened
from tests.sidecar.stores.hot_servers import DebianRedis


@pytest.mark.parametrize(
    "scenario",
    [
        links.test_a_blackhole,
        links.test_a_refused_connection,
        links.test_a_connection_that_died_while_idle_fails_no_call,
        links.test_a_lost_answer_is_said_and_never_repeated,
        links.test_a_cut_in_the_middle_of_an_answer,
    ],
)
def test_on_the_way(scenario: Callable[[EmbeddedValkey, str], Awaitable[None]], valkey: EmbeddedValkey) -> None:
    async def run() -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        async with Redis.from_url(valkey.url) as admin:
            await admin.flushall()
        await scenario(valkey, valkey.url)

    uvloop.run(run())


@pytest.mark.parametrize(
    "scenario",
    [
        links.test_a_killed_server_is_out_and_comes_back,
        links.test_a_paused_server_leaves_the_effect_open,
        links.test_many_calls_at_an_outage_all_end,
    ],
)
def test_at_the_server(scenario: Callable[[links.Killable], Awaitable[None]], servers_directory: Path) -> None:
    async def run() -> None:
        async with killable_valkeys(servers_directory) as make:
            await scenario(make)

    uvloop.run(run())


def test_tls(debian_redis: DebianRedis) -> None:
    async def run() -> None:
        async with opened(debian_redis.options()) as hot:
            await hot.ping()

    uvloop.run(run())
