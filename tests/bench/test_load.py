import json

import pytest

from bench import canned
from bench.load import BadReply, check

ID = canned.message_id(7)


def body_of(*, stream: bool, plan: bool) -> bytes:
    return b"".join(canned.as_frames(ID, plan=plan)) if stream else canned.as_json(ID, plan=plan)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("plan", [False, True])
def test_takes_what_the_upstream_sends(stream: bool, plan: bool) -> None:
    seen: set[str] = set()
    content = check(200, body_of(stream=stream, plan=plan), stream=stream, plan=plan, seen=seen)
    assert content == canned.content(ID, plan=plan)
    assert seen == {ID}


def test_takes_a_stream_with_comments_pings_and_its_json_written_anew() -> None:
    frames = []
    for frame in canned.as_frames(ID, plan=False):
        name, data = frame.decode().strip().split("\n")
        frames.append(f"{name}\ndata: {json.dumps(json.loads(data[6:]), indent=None)}\n\n".encode())
    frames.insert(-2, b": a receipt\n\n")
    frames.insert(5, b'event: ping\ndata: {"type": "ping"}\n\n')
    assert check(200, b"".join(frames), stream=True, plan=False, seen=set()) == canned.content(ID, plan=False)


@pytest.mark.parametrize("plan", [False, True])
@pytest.mark.parametrize("lost", [0, 1, 10, -3, -2, -1])
def test_refuses_a_stream_that_lost_an_event(lost: int, plan: bool) -> None:
    frames = canned.as_frames(ID, plan=plan)
    del frames[lost]
    with pytest.raises(BadReply):
        check(200, b"".join(frames), stream=True, plan=plan, seen=set())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("old", "new"), [(b"end_turn", b"max_tokens"), (b"query", b"quary"), (b":160", b":161")])
def test_refuses_a_reply_that_was_changed(stream: bool, old: bytes, new: bytes) -> None:
    body = body_of(stream=stream, plan=False)
    assert old in body
    with pytest.raises(BadReply):
        check(200, body.replace(old, new), stream=stream, plan=False, seen=set())


def test_refuses_an_error_event_a_status_and_the_same_reply_again() -> None:
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    with pytest.raises(BadReply, match="overloaded_error"):
        check(200, canned.as_frames(ID, plan=False)[0] + error, stream=True, plan=False, seen=set())
    with pytest.raises(BadReply, match="HTTP 409"):
        check(409, b"{}", stream=False, plan=False, seen=set())
    with pytest.raises(BadReply, match="given before"):
        check(200, body_of(stream=False, plan=False), stream=False, plan=False, seen={ID})
