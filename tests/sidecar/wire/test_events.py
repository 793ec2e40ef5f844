import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.wire.events import Accumulator, Frames, data_of
from agentmemory_sidecar.wire.reply import as_stream

MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5",
    "content": [
        {"type": "thinking", "thinking": "Hm, the user…", "signature": "c2ln"},
        {"type": "thinking", "thinking": "", "signature": "b25seQ"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Grüße 🌍", "citations": [{"type": "char_location", "cited_text": "x"}]},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "/a", "deep": [1, {"x": None}]}},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    ],
    "stop_reason": "tool_use", "stop_sequence": None,
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 3, "output_tokens": 42},
}  # fmt: skip


def read(stream: bytes) -> Accumulator:
    copy = Accumulator()
    for frame in Frames().feed(stream):
        copy.read(frame)
    return copy


def test_a_reply_told_as_a_stream_reads_back_as_itself():
    copy = read(b"".join(as_stream(MESSAGE)))
    assert copy.complete
    assert copy.reply().message == MESSAGE
    assert copy.reply().faithful


@given(st.lists(st.integers(1, 60), min_size=1), st.sampled_from([b"\n", b"\r\n"]))
def test_frames_are_found_however_the_bytes_come(sizes, line_end):
    stream = b"".join(as_stream(MESSAGE)).replace(b"\n", line_end)
    frames, copy, seen, at = Frames(), Accumulator(), b"", 0
    while at < len(stream):
        for size in sizes:
            for frame in frames.feed(stream[at : at + size]):
                copy.read(frame)
                seen += frame
            at += size
    assert seen == stream
    assert frames.rest == b""
    assert copy.reply().message == MESSAGE


def test_the_tail_begins_with_message_delta():
    copy, tails = Accumulator(), []
    for frame in as_stream(MESSAGE):
        copy.read(frame)
        tails.append(copy.tail)
    assert tails.index(True) == len(tails) - 2


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_stream_without_its_end_is_not_complete(cut):
    assert not read(b"".join(list(as_stream(MESSAGE))[:-cut])).complete


def test_an_error_is_never_complete():
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    copy = read(b"".join(as_stream(MESSAGE)) + error)
    assert not copy.complete
    assert copy.error is not None


def test_usage_of_the_delta_stands_over_that_of_the_start():
    frames = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 7, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 30}},
        {"type": "message_stop"},
    ]
    copy = read(b"".join(b"event: x\ndata: " + msgspec.json.encode(f) + b"\n\n" for f in frames))
    assert copy.reply().usage == {"input_tokens": 7, "output_tokens": 30}


def test_what_is_unknown_passes_but_is_not_told_again():
    frames = [*as_stream(MESSAGE)]
    frames.insert(3, b'event: novelty\ndata: {"type":"novelty"}\n\n')
    copy = read(b"".join(frames))
    assert copy.complete
    assert not copy.reply().faithful


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b'event: ping\ndata: {"type":"ping"}\n\n', b'{"type":"ping"}'),
        (b"data:x\n\n", b"x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b": data: no\n\n", b""),
        (b"event: ping\n\n", b""),
    ],
)
def test_data_lines(frame, data):
    assert data_of(frame) == data


def test_a_tools_input_that_was_cut_is_not_told_again():
    frames = [
        {"type": "message_start", "message": {"id": "m"}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {}},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a": "b'}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
        {"type": "message_stop"},
    ]
    copy = read(b"".join(b"data: " + msgspec.json.encode(f) + b"\n\n" for f in frames))
    assert copy.complete
    assert copy.reply().content == [{"type": "tool_use", "id": "t", "name": "n", "input": {}}]
    assert not copy.faithful


def delta(index: int, text: str) -> bytes:
    event = {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}
    return b"event: content_block_delta\ndata: " + msgspec.json.encode(event) + b"\n\n"


@pytest.mark.parametrize(
    "broken",
    [
        b'event: content_block_delta\ndata: {"type":"content_block_delta",\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0},{"x":1}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":7,"delta":{}}\n\n',
    ],
)
def test_a_broken_delta_spoils_none_of_those_beside_it(broken):
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    copy = read(
        b'data: {"type":"message_start","message":{"id":"msg_1"}}\n\n'
        b"data: " + msgspec.json.encode(start) + b"\n\n" + delta(0, "one ") + broken + delta(0, "two")
        + b'data: {"type":"content_block_stop","index":0}\n\n'
    )  # fmt: skip
    reply = copy.reply()
    assert reply.content == [{"type": "text", "text": "one two"}]
    assert not reply.faithful
