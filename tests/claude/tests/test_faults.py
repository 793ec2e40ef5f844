"""Each fault as the real SDK sees it."""

from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic

from tests.claude import StrictClaude
from tests.claude.tests.http import MODEL, body, send, user

LONG = "[[say: The answer to this question is long enough for several deltas, at least four of them in all.]]"


def asked(text: str, fault: str = "") -> dict[str, Any]:
    """What the SDK is given to ask this, with a fault in the header."""
    headers = {"x-claude-fault": fault} if fault else {}
    return {"model": MODEL, "max_tokens": 500, "messages": [user(text)], "extra_headers": headers}


def client(claude: StrictClaude, retries: int = 0) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=retries)


async def raw(claude: StrictClaude, fault: str) -> list[str]:
    """Event types of a raw stream up to its end; raises what the SDK raises."""
    seen = []
    async with client(claude) as sdk:
        stream: Any = await sdk.messages.create(**asked(LONG, fault), stream=True)
        async for event in stream:
            seen.append(event.type)  # noqa: PERF401
    return seen


async def test_error_event_after_some_events(claude: StrictClaude) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await raw(claude, "error_event after=3")
    assert caught.value.status_code == 200
    assert caught.value.body["error"] == {"type": "overloaded_error", "message": "Overloaded"}  # type: ignore[index]
    assert claude.requests[0].verdict == "fault"
    assert claude.requests[0].events == 4


async def test_error_event_first(claude: StrictClaude) -> None:
    with pytest.raises(anthropic.APIStatusError):
        await raw(claude, "error_event after=0")
    assert claude.requests[0].events == 1


@pytest.mark.parametrize(
    ("fault", "end"), [("no_message_stop", "message_delta"), ("no_message_delta", "content_block_stop")]
)
async def test_clean_early_end_is_taken_for_success(claude: StrictClaude, fault: str, end: str) -> None:
    assert (await raw(claude, fault))[-1] == end


async def test_cut_inside_a_frame_drops_the_frame(claude: StrictClaude) -> None:
    assert await raw(claude, "cut_frame after=4") == ["message_start", "content_block_start", "content_block_delta"]


async def test_connection_closed_inside_the_body(claude: StrictClaude) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await raw(claude, "fin after=4")


async def test_connection_reset(claude: StrictClaude) -> None:
    with pytest.raises(httpx2.ReadError):
        await raw(claude, "rst after=4")


@pytest.mark.parametrize("fault", ["slow_first_byte ms=30", "slow_events ms=3"])
async def test_slow_is_only_slow(claude: StrictClaude, fault: str) -> None:
    assert (await raw(claude, fault))[-1] == "message_stop"
    assert claude.requests[0].verdict == "ok"


@pytest.mark.parametrize("fault", ["hang", "stall after=3"])
async def test_silence_lasts_until_the_client_leaves(claude: StrictClaude, fault: str) -> None:
    async with AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0, timeout=0.3) as sdk:
        with pytest.raises((anthropic.APITimeoutError, httpx2.ReadTimeout)):
            async with sdk.messages.stream(**asked(LONG, fault)) as stream:
                await stream.get_final_message()
    await claude.close()
    assert claude.requests[0].verdict == "gone"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", anthropic.RateLimitError),
        ("500", anthropic.InternalServerError),
        ("529", anthropic.OverloadedError),
        ("409 error=conflict_error message=busy should_retry=false", anthropic.ConflictError),
    ],
)
async def test_status_in_the_api_s_shape(
    claude: StrictClaude, fault: str, kind: type[anthropic.APIStatusError]
) -> None:
    async with client(claude) as sdk:
        with pytest.raises(kind) as caught:
            await sdk.messages.create(**asked("x", fault))
    assert caught.value.request_id == claude.requests[0].request_id
    assert caught.value.status_code == claude.requests[0].status


async def test_sdk_retries_what_a_header_lets_it(claude: StrictClaude) -> None:
    fault = "status status=529 retry_after=0.01 times=2"
    async with client(claude, retries=2) as sdk:
        answer = await sdk.messages.create(**asked("[[say: ok]]", fault))
        assert answer.content[0].text == "ok"
        assert [one.status for one in claude.requests] == [529, 529, 200]
        with pytest.raises(anthropic.OverloadedError):
            await sdk.messages.create(**asked("again", "529 should_retry=false"))
    assert len(claude.requests) == 4


async def test_cut_json_body_is_tried_three_times(claude: StrictClaude) -> None:
    async with client(claude, retries=2) as sdk:
        sdk._calculate_retry_timeout = lambda *_, **__: 0.0  # type: ignore[method-assign]
        with pytest.raises(anthropic.APIConnectionError):
            await sdk.messages.create(**asked("x", "json_cut"))
    assert len(claude.requests) == 3


async def test_fault_by_directive_and_by_script(claude: StrictClaude) -> None:
    claude.script({"fault": "429 retry_after=7"})
    status, answer = await send(claude.url, body(user("[[fault: 500]]")))
    assert (status, answer["error"]["type"]) == (429, "rate_limit_error")
    status, answer = await send(claude.url, body(user("[[fault: 500]]")))
    assert (status, answer["error"]["type"]) == (500, "api_error")


async def test_unknown_fault_is_named(claude: StrictClaude) -> None:
    status, answer = await send(claude.url, body(user("x")), x_claude_fault="explode")
    assert status == 400
    assert "unknown fault 'explode'" in answer["error"]["message"]
