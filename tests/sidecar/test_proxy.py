"""What a request is taken for, and what reaches Claude of it."""

import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from yarl import URL

from agentmemory_sidecar.wire.request import LIMIT
from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, busy, injections, todos
from tests.sidecar.conftest import Start
from tests.sidecar.raw import CUT, EVENT_STREAM, WHOLE, RawUpstream
from tests.sidecar.stand import SESSION_HEADER, Stand

QUESTION = [{"role": "user", "content": "Go."}]
TEXT = "text/plain; charset=utf-8"


@pytest.fixture
async def passing(start: Start, raw: RawUpstream) -> Stand:
    """A sidecar whose upstream answers everything with a good stream."""
    raw.headers, raw.chunks = EVENT_STREAM, WHOLE
    return await start(upstream=raw.url)


# ------------------------------------------------------------------------------------------------------------ identity


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/v1/messages", "/v1/messages/"])
@pytest.mark.parametrize("prefix", ["", "/s/"])
async def test_every_way_to_write_the_path_is_a_turn(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream, path: str, prefix: str
) -> None:
    agent = connect(passing, path="")
    agent.path = f"{prefix}{agent.session if prefix else ''}{path}?beta=true&x=%2F"
    agent.headers = {SESSION_HEADER: ""} if prefix else {}

    answer = await agent.send(messages=QUESTION)

    assert answer.commit == "committed"
    assert raw.seen[0].path == "/v1/messages?beta=true&x=%2F"
    assert await passing.turn(agent.session) == 1


@pytest.mark.parametrize(
    ("headers", "metadata", "session"),
    [
        ({SESSION_HEADER: "own", "X-Claude-Code-Session-Id": "cc"}, {"user_id": '{"session_id":"json"}'}, "own"),
        ({SESSION_HEADER: "", "X-Claude-Code-Session-Id": "cc"}, {"user_id": '{"session_id":"json"}'}, "cc"),
        ({SESSION_HEADER: ""}, {"user_id": '{"device_id":"d","session_id":"json"}'}, "json"),
        ({SESSION_HEADER: ""}, {"user_id": "user_1_account_2_session_0123abcd-4567"}, "0123abcd-4567"),
        ({SESSION_HEADER: ""}, None, "path id"),
    ],
    ids=["resource-header", "claude-code", "user-id-json", "user-id-legacy", "path"],
)
async def test_session_is_found_in_order(
    passing: Stand, connect: Callable[..., Agent], headers: dict[str, str], metadata: Any, session: str
) -> None:
    agent = connect(passing, headers=headers, path="/s/path%20id/v1/messages")

    answer = await agent.send(messages=QUESTION, metadata=metadata)

    assert answer.receipt["session"] == session
    assert await passing.turn(session) == 1


async def test_request_of_nobody_passes_untouched_and_is_counted(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    agent = connect(passing, headers={SESSION_HEADER: "", "accept-encoding": "gzip", "anthropic-beta": "a,b"})
    body = b' { "messages" :[{"role":"user","content":"Go."}], "stream":true,"max_tokens": 10}'

    answer = await agent.send(body)

    assert (raw.seen[0].body, raw.seen[0].header("accept-encoding")) == (body, ["gzip"])
    assert raw.seen[0].header("anthropic-beta") == ["a,b"]
    assert answer.body == b"".join(WHOLE)
    assert not answer.receipt
    assert passing.metric("requests_without_session") == 1
    assert passing.metric("requests", request_class="passthrough") == 1


@pytest.mark.parametrize("session", ["x" * 300, "tab\there", "ü" * 100])
async def test_impossible_session_id_is_refused_and_said_why(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream, session: str
) -> None:
    agent = connect(passing, headers={SESSION_HEADER: ""})

    answer = await agent.send(
        messages=QUESTION, metadata={"user_id": msgspec.json.encode({"session_id": session}).decode()}
    )

    assert (answer.status, answer.code, answer.headers["x-should-retry"]) == (400, "invalid_session", "false")
    assert "session id" in answer.error["message"]
    assert raw.seen == []


async def test_sessions_and_tenants_are_apart(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    one, other = await start(), await start()
    claude.script(Reply(blocks=[todos("a secret plan")], stop_reason="end_turn"))
    told = connect(one)
    await told.good("Note it.")

    await connect(one).good("What is the plan?")
    await connect(other, session=told.session).good("What is the plan?")

    assert "secret" not in str([request.messages for request in claude.requests[1:]])


async def test_user_is_the_data_subject_where_one_is_named(stand: Stand, connect: Callable[..., Agent]) -> None:
    known, unknown = connect(stand, headers={"X-User": "anna"}), connect(stand)
    await known.good("Hello.")
    await unknown.good("Hello.")

    _, _, body = await stand.admin("GET", "/v1/sessions?subject=user:anna")
    rows = msgspec.json.decode(body)["sessions"]
    assert [row["session"] for row in rows] == [known.session]
    assert (await stand.item(unknown.session)).subject == f"session:{unknown.session}"
    assert (await stand.state(known.session)) == {}


# ------------------------------------------------------------------------------------------------------------- headers


async def test_headers_travel_on_both_ways_except_the_hops_own(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    raw.headers = {**EVENT_STREAM, "anthropic-ratelimit-tokens-limit": "9", "x-unknown": "kept"}
    sent = {
        "anthropic-beta": "context-1m-2025-08-07,compact-2026-01-12",
        "authorization": "Bearer a-key",
        "user-agent": "Anthropic/Python 2.12.0",
        "x-stainless-retry-count": "1",
        "te": "trailers",
        "connection": "keep-alive, x-hop",
        "x-hop": "1",
    }
    agent = connect(passing, headers=sent)

    answer = await agent.send(messages=QUESTION)

    for name in ("anthropic-beta", "authorization", "user-agent", "x-stainless-retry-count"):
        assert raw.seen[0].header(name) == [sent[name]]
    assert raw.seen[0].header("te") == raw.seen[0].header("x-hop") == []
    assert raw.seen[0].header("host") == [raw.url.removeprefix("http://")]
    assert raw.seen[0].header("content-length") == [str(len(raw.seen[0].body))]
    assert (answer.headers["anthropic-ratelimit-tokens-limit"], answer.headers["x-unknown"]) == ("9", "kept")


async def test_body_reaches_claude_as_it_was_written(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    body = (
        b'{\n "stream": true, "unknown" : [1.0, 1e3, "\\u00fc"],\n "messages" : [ { "content": "Go.", "role":"user" } ],'
        b'"max_tokens":10, "model":"claude-opus-5-5" }\n'
    )

    await connect(passing).send(body)

    assert raw.seen[0].body == body


# -------------------------------------------------------------------------------------------------------------- bodies


async def test_gzip_body_is_read_and_sent_on_decoded(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    agent = connect(passing, headers={"content-encoding": "gzip"})
    body = msgspec.json.encode(agent.body(messages=QUESTION))

    answer = await agent.send(gzip.compress(body))

    assert raw.seen[0].body == body
    assert raw.seen[0].header("content-encoding") == []
    assert answer.commit == "committed"


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("gzip", b"no gzip", 400, "request_body_encoding_invalid"),
        ("gzip", gzip.compress(b"x" * 1000)[:-9], 400, "request_body_encoding_invalid"),
        ("gzip", gzip.compress(b" " * (LIMIT + 1)), 413, "request_body_too_large_after_decoding"),
        ("br", b"anything", 400, "request_body_encoding_unsupported"),
    ],
    ids=["no-gzip", "cut", "bomb", "unknown"],
)
async def test_bad_encoding_is_refused_as_the_api_does(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream, encoding: str, body: bytes, status: int, code: str
) -> None:
    answer = await connect(passing, headers={"content-encoding": encoding}).send(body)

    assert (answer.status, answer.code, answer.headers["x-should-retry"]) == (status, code, "false")
    assert raw.seen == []


async def test_body_may_have_32_mb_and_not_a_byte_more(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    agent = connect(passing)
    empty = msgspec.json.encode(agent.body(messages=QUESTION))
    whole = empty[:-1] + b" " * (LIMIT - len(empty)) + b"}"
    assert len(whole) == 32_000_000

    fits, large = await agent.send(whole), await connect(passing).send(whole + b" ")

    assert fits.commit == "committed"
    assert len(raw.seen) == 1
    assert raw.seen[0].body == whole
    assert (large.status, large.error["type"]) == (413, "request_too_large")


DEEP = b'{"stream":true,"messages":[{"role":"user","content":' + b"[" * 50_000 + b"]" * 50_000 + b"}]}"
NESTED = b'{"stream":true,"messages":[{"role":"user","content":[{"type":"x","y":' + b"[" * 600 + b"]" * 600 + b"}]}]}"
TOOLS = b'{"stream":true,"messages":[{"role":"user","content":"x"}],"tools":' + b"[" * 600 + b"]" * 600 + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"model":"m"}',
        b'{"messages":7}',
        b'{"messages":[{"role":"user"',
        b"\xff\xfe{",
        DEEP,
        NESTED,
        TOOLS,
    ],
    ids=["empty", "cut", "list", "no-messages", "number", "cut-within", "no-utf-8", "deep", "nested", "tools"],
)
async def test_body_that_cannot_be_read_is_left_to_claude(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream, body: bytes
) -> None:
    answer = await connect(passing).send(body)

    assert answer.status == 200
    assert raw.seen[0].body == body
    assert answer.body == b"".join(WHOLE)
    assert passing.metric("unreadable_requests") == 1


@pytest.mark.parametrize(
    "messages",
    [[], [7], [{"role": "user"}], [{"role": 3, "content": None}], [{"role": "user", "content": [7, None, "x"]}]],
    ids=str,
)
async def test_strange_messages_are_left_to_claude_as_well(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream, messages: list[Any]
) -> None:
    agent = connect(passing)

    answer = await agent.send(messages=messages)

    assert answer.status == 200
    assert msgspec.json.decode(raw.seen[0].body)["messages"] == messages


# ------------------------------------------------------------------------------------------------------- passed through


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models?limit=3"),
        ("HEAD", "/api/hello"),
        ("DELETE", "/v1/files/file_1"),
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages"),
        ("PUT", "/any/thing%20else?x=%2F&y"),
    ],
)
async def test_other_paths_pass_through(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream, method: str, path: str
) -> None:
    raw.status, raw.headers = 203, {"content-type": TEXT, "x-a": "1", "content-encoding": "gzip"}
    raw.chunks = [gzip.compress(b"any bytes")]
    agent = connect(passing)
    body = None if method in ("GET", "HEAD") else b"\0\xff body"

    async with agent.http.request(
        method, URL(agent.url + path, encoded=True), data=body, headers=agent.sent_headers
    ) as response:
        answered = await response.read()

    assert (raw.seen[0].method, raw.seen[0].path, raw.seen[0].body) == (method, path, body or b"")
    assert (response.status, response.headers["x-a"], response.headers["content-encoding"]) == (203, "1", "gzip")
    assert answered == (b"" if method == "HEAD" else raw.chunks[0])
    assert await passing.turn(agent.session) == 0


async def test_session_prefix_is_taken_off_other_paths_too(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    agent = connect(passing)
    async with agent.http.get(URL(f"{agent.url}/s/a%2Fb/v1/models?x=1", encoded=True)) as response:
        await response.read()

    assert raw.seen[0].path == "/v1/models?x=1"


async def test_big_upload_streams_through_without_being_kept(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    piece = bytes(range(256)) * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield piece

    agent = connect(passing)
    headers = {"content-length": str(40 * len(piece))}
    async with agent.http.post(agent.url + "/v1/files", data=pieces(), headers=headers) as response:
        await response.read()

    assert response.status == 200
    assert len(raw.seen[0].body) == 40 * len(piece) > LIMIT
    assert raw.seen[0].body == piece * 40
    assert raw.seen[0].header("content-length") == [str(40 * len(piece))]


async def test_answer_that_breaks_off_is_cut_for_the_client_too(
    passing: Stand, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    raw.headers, raw.chunks = {"content-type": TEXT}, [b"half", CUT]
    answer = await connect(passing, path="/v1/files/f/content").send(b"x")

    assert (answer.body, answer.cut) == (b"half", True)


# --------------------------------------------------------------------------------------------- requests that only read


ASIDE: dict[str, dict[str, Any]] = {
    "count_tokens": {"path": "/v1/messages/count_tokens", "extra": {"stream": None, "max_tokens": None}},
    "one token": {"extra": {"max_tokens": 1}},
    "auxiliary": {"headers": {"x-claude-code-request-class": "auxiliary"}},
    "side reply": {"headers": {"x-claude-code-request-class": "side_reply"}},
    "compaction": {"headers": {"x-claude-code-request-class": "compaction"}},
    "compaction without hints": {"headers": {"x-claude-code-compaction": "manual"}},
}


@pytest.mark.parametrize("kind", ASIDE)
async def test_reading_request_takes_no_lock_saves_nothing_and_carries_the_ledger(
    stand: Stand, agent: Agent, claude: StrictClaude, kind: str
) -> None:
    claude.script([Reply(blocks=[todos("book the hall")])])
    await agent.results(await agent.good("Plan the party."))
    await agent.good("Which hall?")
    before, seen = await stand.stored(agent.session), claude.requests[-1]
    assert injections(seen.messages)
    reader = agent.fresh(**ASIDE[kind])
    reader.messages = [*agent.messages, {"role": "user", "content": "Sum it up, or name it."}]

    answer = await reader.send()

    assert answer.status == 200, answer.body
    sent = claude.requests[-1].messages
    assert sent[: len(seen.messages)] == seen.messages
    assert injections(sent) == injections(seen.messages)
    assert await stand.stored(agent.session) == before
    assert not answer.receipt
    # The conversation goes on as if nothing had been.
    assert (await agent.good("And the cake?")).receipt["turn"] == "4"


async def test_reading_request_is_served_while_the_session_is_busy(
    stand: Stand, agent: Agent, claude: StrictClaude
) -> None:
    async with busy(agent, claude, messages=QUESTION):
        answer = await agent.fresh(**ASIDE["count_tokens"]).send(messages=QUESTION)

    assert answer.status == 200
    assert "input_tokens" in msgspec.json.decode(answer.body)


async def test_title_request_of_claude_code_is_no_turn(stand: Stand, connect: Callable[..., Agent]) -> None:
    session = {"X-Claude-Code-Session-Id": "cc-1", SESSION_HEADER: ""}
    title = connect(stand, session="cc-1", headers=session, extra={"tools": None})
    main = connect(stand, session="cc-1", headers=session)
    plain = connect(stand, extra={"tools": None})

    assert not (await title.send(messages=QUESTION)).receipt
    assert (await main.send(messages=QUESTION)).commit == "committed"
    # The guess is made for Claude Code alone: anyone else's request without tools is a conversation.
    assert (await plain.send(messages=QUESTION)).commit == "committed"
