"""Message Threads: what may be continued, by whom and with what."""

import asyncio
from typing import Any

import pytest

from tests.claude import Options, Reply, StrictClaude
from tests.claude.tests.http import Json, assistant, body, send, user

BETA = {"anthropic_beta": "message-threads-2026-08-12"}


async def created(claude: StrictClaude, **rest: Any) -> str:
    """The id that continues a new thread about Bluebird."""
    params = body(user("The name is Bluebird."), thread={"type": "create"}, system="Be kind.", **rest)
    status, answer = await send(claude.url, params, **BETA)
    assert status == 200, answer
    return str(answer["id"])


def going_on(message_id: str, *messages: Json, **rest: Any) -> Json:
    thread = {"type": "continue", "previous_message_id": message_id}
    return body(*(messages or (user("What is the name?"),)), thread=thread, **rest)


async def test_history_is_held(claude: StrictClaude) -> None:
    first = await created(claude)
    status, answer = await send(claude.url, going_on(first), **BETA)
    assert status == 200
    assert answer["content"][0]["text"] == "From what I was told: The name is Bluebird."
    status, again = await send(claude.url, going_on(answer["id"]), **BETA)
    assert (status, len(claude.requests[-1].prompt)) == (200, 5)
    assert again["usage"]["input_tokens"] > answer["usage"]["input_tokens"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"system": "Be kind."}, "thread_forbidden_field"),
        ({"tools": []}, "thread_forbidden_field"),
        ({"model": "claude-sonnet-5-5"}, "thread_fingerprint_mismatch"),
        ({"messages": [assistant("No.")]}, "prefill"),
        ({"messages": []}, "no_messages"),
        ({"messages": [user({"type": "tool_result", "tool_use_id": "toolu_1"})]}, "tool_result_orphan"),
    ],
)
async def test_bad_continuation(claude: StrictClaude, change: Json, rule: str) -> None:
    first = await created(claude)
    status, answer = await send(claude.url, going_on(first) | change, **BETA)
    assert (status, claude.requests[-1].rule) == (400, rule), answer
    if rule == "tool_result_orphan":
        assert answer["error"]["message"].startswith("messages.0.content.0: ")
    assert (await send(claude.url, going_on(first), **BETA))[0] == 200


async def test_each_reply_is_continued_once(claude: StrictClaude) -> None:
    first = await created(claude)
    assert (await send(claude.url, going_on(first), **BETA))[0] == 200
    status, answer = await send(claude.url, going_on(first), **BETA)
    assert (status, answer["error"]["details"]) == (400, {"error_code": "thread_already_continued"})


async def test_only_one_continuation_at_a_time(claude: StrictClaude) -> None:
    first = await created(claude)
    claude.script([Reply(first_byte_ms=300)])
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(send(claude.url, going_on(first), **BETA))
        await claude.received(2)
        status, answer = await send(claude.url, going_on(first), **BETA)
    assert (status, answer["error"]["details"]) == (400, {"error_code": "thread_continue_in_flight"})
    assert slow.result()[0] == 200


async def test_failed_continuation_may_be_tried_again(claude: StrictClaude) -> None:
    first = await created(claude)
    claude.script([Reply(fault="error_event after=4")])
    await send_stream(claude, going_on(first, stream=True))
    assert (await send(claude.url, going_on(first), **BETA))[0] == 200


async def send_stream(claude: StrictClaude, params: Json) -> None:
    with pytest.raises(ValueError, match="malformed"):  # it is a stream, not JSON
        await send(claude.url, params, **BETA)


async def test_lost_thread_is_not_found() -> None:
    now = 0.0
    async with StrictClaude(Options(clock=lambda: now)) as claude:
        first = await created(claude)
        now = 299
        status, answer = await send(claude.url, going_on(first), **BETA)
        assert status == 200
        now = 600
        for lost in (answer["id"], "msg_01unknown"):
            status, refused = await send(claude.url, going_on(lost), **BETA)
            assert (status, refused["error"]["type"]) == (404, "not_found_error")
            assert refused["error"]["details"] == {"error_code": "thread_not_found"}


async def test_thinking_made_in_a_thread_verifies_in_full_history(claude: StrictClaude) -> None:
    thinking = {"thinking": {"type": "adaptive"}}
    first = await created(claude, **thinking)
    note = {"type": "text", "text": "<memory>a fact</memory>"}
    _, answer = await send(claude.url, going_on(first, user("What is the name?", note), **thinking), **BETA)
    history = [*claude.requests[-1].prompt, {"role": "assistant", "content": answer["content"]}]
    assert (await send(claude.url, body(*history, user("Sure?"), system="Be kind.")))[0] == 200
    history[2] = user("What is the name?")
    assert (await send(claude.url, body(*history, user("Sure?"), system="Be kind.")))[0] == 400
