"""Cache numbers on worked examples: every block below is 400 characters as rendered, so 100 tokens."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from tests.claude import Options, Reply, StrictClaude
from tests.claude.tests.http import Json, assistant, body, call, result, send, user

MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


class Clock:
    """A clock that a test moves. Seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def timed(clock: Clock) -> AsyncIterator[StrictClaude]:
    async with StrictClaude(Options(clock=clock)) as server:
        yield server


def hundred(name: str, **rest: Any) -> Json:
    """A text block of 100 tokens: 25 characters of JSON around 375 of text."""
    return {"type": "text", "text": name.ljust(375, "."), **rest}


async def usage(claude: StrictClaude, params: Json, **headers: str) -> tuple[int, int, int]:
    """(uncached, created, read) of one request."""
    status, answer = await send(claude.url, params, **headers)
    assert status == 200, answer
    used = answer["usage"]
    assert sum(used["cache_creation"].values()) == used["cache_creation_input_tokens"]
    return used["input_tokens"], used["cache_creation_input_tokens"], used["cache_read_input_tokens"]


async def test_growing_conversation(timed: StrictClaude) -> None:
    system = [hundred("system", **MARK)]
    assert await usage(timed, body(user(hundred("a", **MARK)), system=system)) == (0, 200, 0)
    assert await usage(timed, body(user(hundred("a", **MARK)), system=system)) == (0, 0, 200)
    grown = (user(hundred("a")), assistant(hundred("b")), user(hundred("c", **MARK), hundred("d")))
    assert await usage(timed, body(*grown, system=system)) == (100, 200, 200)
    assert await usage(timed, body(*grown, system=system)) == (100, 0, 400)
    assert await usage(timed, body(user(hundred("other", **MARK)), system=system)) == (0, 100, 100)
    assert timed.counters["cache_read_input_tokens"] == 200 + 200 + 400 + 100


async def test_usage_of_a_stream_is_that_of_json(timed: StrictClaude) -> None:
    params = body(user(hundred("a", **MARK)), stream=True)
    timed.script(["one", "two"])
    async with anthropic.AsyncAnthropic(base_url=timed.url, api_key="k", max_retries=0) as client:
        for expected in ((0, 100, 0), (0, 0, 100)):
            async with client.messages.stream(**{k: v for k, v in params.items() if k != "stream"}) as stream:
                used = (await stream.get_final_message()).usage
            assert (used.input_tokens, used.cache_creation_input_tokens, used.cache_read_input_tokens) == expected
            assert used.output_tokens == 1


async def test_lifetime_counts_from_the_request_and_reading_refreshes_it(timed: StrictClaude, clock: Clock) -> None:
    params = body(user(hundred("a", **MARK)))
    assert await usage(timed, params) == (0, 100, 0)
    for _ in range(3):
        clock.now += 299
        assert await usage(timed, params) == (0, 0, 100)
    clock.now += 301
    assert await usage(timed, params) == (0, 100, 0)


async def test_hour_and_five_minutes_side_by_side(timed: StrictClaude, clock: Clock) -> None:
    params = body(user(hundred("a", **MARK)), system=[hundred("s", **HOUR)])
    _, answer = await send(timed.url, params)
    assert answer["usage"]["cache_creation"] == {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 100}
    clock.now += 301
    assert await usage(timed, params) == (0, 100, 100)
    clock.now += 3601
    assert await usage(timed, params) == (0, 200, 0)


async def test_short_prefix_is_not_kept_and_nobody_says_so(clock: Clock) -> None:
    async with StrictClaude(Options(clock=clock, minimum_cache_tokens=None)) as claude:
        short, long = [hundred(str(n)) for n in range(5)], [hundred(str(n)) for n in range(6)]
        for expected in ((500, 0, 0), (500, 0, 0)):
            assert await usage(claude, body(user(*short[:-1], short[-1] | MARK))) == expected
        for expected in ((0, 600, 0), (0, 0, 600)):
            assert await usage(claude, body(user(*long[:-1], long[-1] | MARK))) == expected


@pytest.mark.parametrize(("between", "read"), [(18, 100), (19, 0)])
async def test_lookback_of_twenty_positions(timed: StrictClaude, between: int, read: int) -> None:
    assert await usage(timed, body(user(hundred("a", **MARK)))) == (0, 100, 0)
    more = [hundred(str(n)) for n in range(between)]
    got = await usage(timed, body(user(hundred("a"), *more, hundred("last", **MARK))))
    assert got == (0, 100 * (between + 2) - read, read)


async def test_run_of_results_is_one_position(timed: StrictClaude) -> None:
    assert await usage(timed, body(user(hundred("a", **MARK)))) == (0, 100, 0)
    names = [f"toolu_{n}" for n in range(30)]
    calls, results = [call(one) for one in names], [result(one) for one in names]
    *_, read = await usage(timed, body(user(hundred("a")), assistant(*calls), user(*results, hundred("z", **MARK))))
    assert read == 100


async def test_automatic_breakpoint(timed: StrictClaude) -> None:
    assert await usage(timed, body(user(hundred("a")), **MARK)) == (0, 100, 0)
    grown = body(user(hundred("a")), assistant(hundred("b")), user(hundred("c")), **MARK)
    assert await usage(timed, grown) == (0, 200, 100)


BASE = body(
    user(hundred("u", **MARK)),
    system=[hundred("s", **MARK)],
    tools=[{"name": "t", "input_schema": {"type": "object"}, "description": "d" * 338, **MARK}],
)
TOOL_TOKENS = 100


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({}, TOOL_TOKENS + 200),
        ({"max_tokens": 9, "metadata": {"user_id": "x"}}, TOOL_TOKENS + 200),
        ({"messages": [user(hundred("v", **MARK))]}, TOOL_TOKENS + 100),
        ({"tool_choice": {"type": "none"}}, TOOL_TOKENS + 100),
        ({"system": [hundred("changed", **MARK)]}, TOOL_TOKENS),
        ({"tools": [*BASE["tools"], {"name": "new", "input_schema": {"type": "object"}}]}, TOOL_TOKENS),
        ({"tools": [{"input_schema": {"type": "object"}, "name": "t", "description": "d" * 338, **MARK}]}, 0),
        ({"model": "claude-sonnet-5-5"}, 0),
    ],
    ids=["same", "parameters", "message", "tool choice", "system", "tool added", "key order", "model"],
)
async def test_what_invalidates_what(timed: StrictClaude, change: Json, read: int) -> None:
    _, created, _ = await usage(timed, BASE)
    assert created == TOOL_TOKENS + 200
    assert (await usage(timed, BASE | change))[2] == read


async def test_workspaces_share_nothing(timed: StrictClaude) -> None:
    assert await usage(timed, BASE) == (0, TOOL_TOKENS + 200, 0)
    assert (await usage(timed, BASE, x_api_key="another"))[2] == 0


async def test_entry_is_readable_only_once_its_reply_has_started(timed: StrictClaude) -> None:
    timed.script([Reply(first_byte_ms=300), Reply(), Reply()])
    async with asyncio.TaskGroup() as group:
        first = group.create_task(usage(timed, BASE))
        await timed.received(1)
        assert (await usage(timed, BASE))[2] == 0
    assert first.result()[2] == 0
    assert (await usage(timed, BASE))[2] == TOOL_TOKENS + 200


async def test_cleared_system_message_costs_nothing(timed: StrictClaude) -> None:
    note = {"role": "system", "content": [hundred("note")], "clear_at": "next_user_message"}
    beta = {"anthropic_beta": "mid-conversation-system-clear-at-2026-08-21"}
    assert await usage(timed, body(user(hundred("a")), note), **beta) == (200, 0, 0)
    later = body(user(hundred("a")), note, assistant(hundred("b")), user(hundred("c")))
    assert await usage(timed, later, **beta) == (300, 0, 0)


async def test_count_tokens_is_the_sum_of_the_three(timed: StrictClaude) -> None:
    counting = {k: v for k, v in BASE.items() if k != "max_tokens"}
    _, answer = await send(timed.url, counting, "/v1/messages/count_tokens")
    assert answer == {"input_tokens": sum(await usage(timed, BASE))}
