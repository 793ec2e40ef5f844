"""A request read from where the one before it ended is the request read whole."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.wire.request import MessagesRequest, Newest, Unreadable, parse

TAIL = b',"model":"m","system":[{"type":"text","text":"Be kind."}],"tools":[{"name":"t"}],"stream":true}'


def body(messages: list[Any], gap: bytes = b"", tail: bytes = TAIL) -> bytes:
    listed = (b"," + gap).join(msgspec.json.encode(message) for message in messages)
    return b'{"max_tokens":9,"messages":[' + listed + b"]" + tail


def seen(request: MessagesRequest) -> dict[str, Any]:
    return {
        "raws": [request.raw(index) for index in range(len(request))],
        "messages": request.messages(),
        "spans": [request.span_of(index) for index in range(len(request))],
        "sketches": request.sketches,
        "marks": [list(row) for row in request.chain.marks],
        "places": dict(request.chain.places),
        "fingerprint": request.fingerprint("s", "a"),
        "fields": request.fields,
        "body": request.body,
    }


blocks = st.one_of(
    st.text(max_size=4).map(lambda text: {"type": "text", "text": text}),
    st.just({"type": "tool_result", "tool_use_id": "u", "content": "x"}),
    st.just({"type": "thinking", "thinking": "hm", "signature": "s"}),
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]),
        "content": st.text(max_size=4) | st.lists(blocks, max_size=3),
    }
)


@given(
    st.lists(messages, min_size=1, max_size=4), st.lists(messages, max_size=3), st.sampled_from([b"", b" ", b"\n "]),
    st.booleans(),
)  # fmt: skip
def test_a_continued_request_is_the_whole_one(first: list[Any], more: list[Any], gap: bytes, chained: bool) -> None:
    before = parse(body(first, gap))
    if chained:
        before.fingerprint("s", "a")
    whole = body(first + more, gap)
    continued = before.continued(whole)
    assert continued is not None
    assert seen(continued) == seen(parse(whole))


@pytest.mark.parametrize(
    "other",
    [
        body([{"role": "user", "content": "other"}, {"role": "user", "content": "b"}]),
        body([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], tail=TAIL.replace(b"kind", b"rude")),
        body([{"role": "user", "content": "a"}])[: -len(TAIL) - 1] + b"x]" + TAIL,
        body([{"role": "user", "content": "a"}])[: -len(TAIL) - 1] + b",]" + TAIL,
        body([]),
        b"",
    ],
    ids=["prefix", "system", "no-comma", "comma-alone", "shorter", "empty"],
)
def test_what_does_not_continue_it_is_read_whole(other: bytes) -> None:
    assert parse(body([{"role": "user", "content": "a"}])).continued(other) is None


def test_more_that_is_no_json_is_refused_as_ever() -> None:
    newest, first = Newest(), body([{"role": "user", "content": "a"}])
    newest.parse("s", first)
    with pytest.raises(Unreadable):
        newest.parse("s", first[: -len(TAIL) - 1] + b',{"role":]' + TAIL)
    assert len(newest.parse("s", first)) == 1


def test_no_more_is_kept_than_may_be() -> None:
    newest = Newest(limit=2_000, longest=1_000)
    for number in range(50):
        newest.parse(f"s{number}", body([{"role": "user", "content": "x" * 300}]))
    newest.parse("long", body([{"role": "user", "content": "x" * 3_000}]))
    assert sum(len(request.body) for request in newest._kept.values()) <= 2_000
    assert "long" not in newest._kept
    assert newest._size == sum(len(request.body) for request in newest._kept.values())
