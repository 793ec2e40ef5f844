"""Several streams as one: what the client gets is one well-formed message, whatever was hidden in it."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.wire.events import PING, Accumulator, Frames, Reply
from agentmemory_sidecar.wire.reply import as_stream
from agentmemory_sidecar.wire.splicing import Splice, ended, joined, total
from tests.sidecar.agents import spelled

Json = dict[str, Any]
CALL: Json = {"type": "tool_use", "id": "m", "name": "memory", "input": {"command": "view"}}
OWN: Json = {"type": "tool_use", "id": "c", "name": "look", "input": {"at": [1]}}
THOUGHT: Json = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
BLOCK = st.sampled_from([CALL, OWN, THOUGHT, {"type": "text", "text": 'says "index":7, '}])


def message(number: int, content: Sequence[Json], **rest: Any) -> Json:
    usage = {"input_tokens": 10 * number, "output_tokens": number, "cache_read_input_tokens": 0}
    whole = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": list(content), "usage": usage}
    return {**whole, "model": "m", "stop_reason": "tool_use", "stop_sequence": None, **rest}


def streamed(messages: Sequence[Json], *, spaced: bool = False) -> tuple[list[Json], Reply]:
    """The events that the client gets, and the reply that is kept."""
    splice = Splice("memory")
    replies: list[Reply] = []
    out: list[bytes] = []
    held: list[bytes] = []
    for one in messages:
        splice.begin()
        copy, held = Accumulator(), []
        for frame in Frames().feed(b"".join(as_stream(one))):
            sent = frame.replace(b'","index":', b'", "index": ') if spaced else frame
            kind = copy.read(sent)
            (held if copy.tail else out).append(sent if copy.tail else splice.take(sent, kind))
        replies.append(copy.reply())
    stream = b"".join(out) + b"".join(ended(held, replies))
    events = [msgspec.json.decode(frame.partition(b"data: ")[2]) for frame in stream.split(b"\n\n") if frame]
    return events, joined(replies, "memory")


@given(st.lists(st.lists(BLOCK, max_size=5), min_size=1, max_size=4), st.booleans())
def test_stream_and_message_tell_the_same(contents: list[list[Json]], spaced: bool) -> None:
    messages = [message(number, content) for number, content in enumerate(contents, 1)]
    messages[-1]["stop_reason"] = "end_turn"
    events, reply = streamed(messages, spaced=spaced)

    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    assert [kind for kind in kinds if kind.startswith("message")] == ["message_start", "message_delta", "message_stop"]
    opened = [event["index"] for event in events if event["type"] == "content_block_start"]
    closed = [event["index"] for event in events if event["type"] == "content_block_stop"]
    assert opened == closed == list(range(len(opened)))
    shown = [block for content in contents for block in content if block != CALL]
    assert spelled(events)["content"] == shown == reply.content
    assert (reply.id, reply.stop_reason) == ("msg_1", "end_turn")
    count = len(contents)
    assert reply.usage["output_tokens"] == count * (count + 1) // 2
    assert {name: spelled(events)["usage"][name] for name in reply.usage} == reply.usage
    assert reply.faithful


def test_one_reply_with_nothing_hidden_is_itself() -> None:
    reply = Reply(message(1, [THOUGHT, OWN]), raw=b"as it came")
    assert joined([reply], "memory") is reply
    splice = Splice("memory")
    splice.begin()
    for frame in as_stream(reply.message):
        kind = msgspec.json.decode(frame.partition(b"data: ")[2])["type"]
        assert splice.take(frame, kind) is frame


def test_pings_comments_and_unknown_events_go_on() -> None:
    splice = Splice("memory")
    splice.begin()
    for frame, kind in ((PING, "ping"), (b": hello\n\n", ""), (b'event: new\ndata: {"type":"new"}\n\n', "new")):
        assert splice.take(frame, kind) == frame


@pytest.mark.parametrize("data", [b'{"type":"content_block_delta",', b'{"type":"content_block_delta","delta":{}}'])
def test_frames_that_nobody_can_read_break_nothing(data: bytes) -> None:
    splice = Splice("memory")
    splice.begin()
    splice.take(b"event: content_block_delta\ndata: " + data + b"\n\n", "content_block_delta")


def test_index_behind_other_members_is_found() -> None:
    splice = Splice("memory")
    splice.begin()
    start = b'event: content_block_start\ndata: {"index":%d,"content_block":%s,"type":"content_block_start"}\n\n'
    assert splice.take(start % (0, msgspec.json.encode(CALL)), "content_block_start") == b""
    told = splice.take(start % (1, b'{"type":"text","text":"\\"index\\":1"}'), "content_block_start")
    event = msgspec.json.decode(told.partition(b"data: ")[2])
    assert (event["index"], event["content_block"]["text"]) == (0, '"index":1')


def test_usage() -> None:
    first = {"input_tokens": 3, "cache_creation": {"a": 1}, "service_tier": "standard", "server_tool_use": None}
    second = {
        "input_tokens": 4,
        "cache_creation": {"a": 2, "b": 5},
        "service_tier": "batch",
        "server_tool_use": {"n": 1},
    }
    assert total([first, second]) == {
        "input_tokens": 7, "cache_creation": {"a": 3, "b": 5}, "service_tier": "batch", "server_tool_use": {"n": 1}
    }  # fmt: skip
    assert total([second, first])["server_tool_use"] == {"n": 1}


def test_delta_that_tells_output_alone_gets_the_input_of_all() -> None:
    replies = [Reply(message(number, [])) for number in (1, 2)]
    delta = b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":2}}\n\n'
    told, stop = ended([delta, b'event: message_stop\ndata: {"type":"message_stop"}\n\n'], replies)
    usage = msgspec.json.decode(told.partition(b"data: ")[2])["usage"]
    assert usage == {"input_tokens": 30, "output_tokens": 3, "cache_read_input_tokens": 0}
    assert stop.startswith(b"event: message_stop")
