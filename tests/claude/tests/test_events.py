"""The stream, byte for byte."""

from typing import Any

import aiohttp
import msgspec
import pydantic
import pytest
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent

from tests.claude import Reply, StrictClaude
from tests.claude.tests.http import HEADERS, Json, body, user

MIXED: list[str | Json] = [
    {"type": "thinking", "thinking": "Thinking takes more than one delta to say."},
    "The answer takes more than one delta as well, doesn't it? Ünïcode: 漢字.",
    {"type": "tool_use", "name": "look", "input": {"at": "somewhere far away"}},
    {"type": "tool_use", "name": "leap", "input": {}},
]


async def streamed(claude: StrictClaude, **rest: object) -> list[Json]:
    """The events of one stream, each frame checked for its exact form."""
    params = msgspec.json.encode(body(user("x"), stream=True, **rest))
    async with (
        aiohttp.ClientSession() as session,
        session.post(claude.url + "/v1/messages", data=params, headers=HEADERS) as response,
    ):
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["request-id"] == claude.requests[-1].request_id
        raw = await response.read()
    assert raw.endswith(b"\n\n")
    events = []
    for frame in raw.decode().split("\n\n")[:-1]:
        first, second = frame.split("\n")
        data = msgspec.json.decode(second.removeprefix("data: "))
        assert first == f"event: {data['type']}"
        events.append(data)
    return events


async def test_order_and_deltas(claude: StrictClaude) -> None:
    claude.script(Reply(blocks=MIXED))
    events = await streamed(claude)
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    message = events[0]["message"]
    assert (message["content"], message["stop_reason"], message["usage"]["output_tokens"]) == ([], None, 1)
    opened: list[Json] = [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "name": "look", "input": {}},
        {"type": "tool_use", "name": "leap", "input": {}},
    ]
    for index, block in enumerate(opened):
        mine = [event for event in events if event.get("index") == index]
        assert [mine[0]["type"], mine[-1]["type"]] == ["content_block_start", "content_block_stop"]
        assert mine[0]["content_block"].items() >= block.items()
    deltas = [[e["delta"] for e in events if e.get("index") == n and "delta" in e] for n in range(4)]
    assert [delta["type"] for delta in deltas[0]] == ["thinking_delta", "thinking_delta", "signature_delta"]
    assert "".join(delta["text"] for delta in deltas[1]) == MIXED[1]
    assert len(deltas[1]) > 2
    pieces = [delta["partial_json"] for delta in deltas[2]]
    assert pieces[0] == ""
    assert len(pieces) > 2
    assert msgspec.json.decode("".join(pieces)) == {"at": "somewhere far away"}
    assert [delta["partial_json"] for delta in deltas[3]] == [""]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] > 1
    assert events[-2]["usage"]["input_tokens"] == message["usage"]["input_tokens"]


async def test_replies_are_what_the_package_says_they_are(claude: StrictClaude) -> None:
    claude.script(Reply(blocks=[*MIXED, {"type": "redacted_thinking"}], times=2))
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(BetaRawMessageStreamEvent)
    for event in await streamed(claude):
        if event["type"] != "ping":
            assert not _extra(adapter.validate_python(event)), event
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            claude.url + "/v1/messages", data=msgspec.json.encode(body(user("x"))), headers=HEADERS
        ) as response,
    ):
        assert not _extra(BetaMessage.model_validate(await response.json()))


def _extra(value: Any) -> dict[str, Any]:
    """Fields that the package's models do not know, at any depth."""
    if isinstance(value, list):
        return {name: one for item in value for name, one in _extra(item).items()}
    if not isinstance(value, pydantic.BaseModel):
        return {}
    found = dict(value.model_extra or {})
    for name in type(value).model_fields:
        found |= _extra(getattr(value, name))
    return found


async def test_stream_and_json_say_the_same(claude: StrictClaude) -> None:
    claude.script(Reply(blocks=MIXED, times=2))
    await streamed(claude)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            claude.url + "/v1/messages", data=msgspec.json.encode(body(user("x"))), headers=HEADERS
        ) as response,
    ):
        answer = await response.json()
    first, second = claude.requests
    without_ids = [[{k: v for k, v in b.items() if k != "id"} for b in one] for one in (first.reply, answer["content"])]
    assert without_ids[0] == without_ids[1]
    assert first.usage == second.usage == answer["usage"]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_chunks_may_cut_frames_and_characters_anywhere(claude: StrictClaude, size: int) -> None:
    claude.script(Reply(blocks=MIXED, chunk_bytes=size, times=2), Reply(blocks=MIXED))
    params = msgspec.json.encode(body(user("x"), stream=True))
    sizes = []
    async with (
        aiohttp.ClientSession() as session,
        session.post(claude.url + "/v1/messages", data=params, headers=HEADERS) as response,
    ):
        async for data, _ in response.content.iter_chunks():
            sizes.append(len(data))
    assert any(one % 7 == 0 for one in sizes) if size == 7 else sizes
    assert [e["type"] for e in await streamed(claude)] == [e["type"] for e in await streamed(claude)]


async def test_pings_and_unknown_events_in_between(claude: StrictClaude) -> None:
    claude.script(Reply(blocks=MIXED, pings=3, extra_events=[{"type": "weather", "sky": "blue"}]))
    kinds = [event["type"] for event in await streamed(claude)]
    assert kinds.count("ping") == 4
    assert kinds[2] == "weather"
    assert kinds[-2:] == ["message_delta", "message_stop"]


async def test_compressed_stream(claude: StrictClaude) -> None:
    claude.script(Reply(blocks=MIXED, compress=True))
    assert (await streamed(claude))[-1]["type"] == "message_stop"


async def test_beta_fields_of_the_reply(claude: StrictClaude) -> None:
    headers = HEADERS | {"anthropic-beta": "thinking-binding-controls-2026-08-01,context-management-2025-06-27"}
    params = msgspec.json.encode(body(user("x"), context_management={"edits": []}))
    async with (
        aiohttp.ClientSession() as session,
        session.post(claude.url + "/v1/messages", data=params, headers=headers) as response,
    ):
        answer = await response.json()
    assert answer["input_transformations"] == []
    assert answer["context_management"] == {"applied_edits": []}
