"""A reply on its way through a step: byte for byte, at once, and its end only when it is saved."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from agentmemory_sidecar.step import acknowledge
from tests.claude import Reply, StrictClaude, events
from tests.sidecar.agents import Agent, todos
from tests.sidecar.conftest import Start
from tests.sidecar.raw import BLOCK, DELTA, EVENT_STREAM, START, STOP, STOP_BLOCK, TEXT, WHOLE, RawUpstream
from tests.sidecar.stand import Stand

QUESTION = [{"role": "user", "content": "Go."}]
LONG = "A sentence that fills more than one delta of a stream, and then some. " * 5


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every frame that the strict Claude makes, in order."""
    made: list[bytes] = []
    frame = events.frame

    def recorded(event: events.Event) -> bytes:
        made.append(frame(event))
        return made[-1]

    monkeypatch.setattr(events, "frame", recorded)
    return made


@asynccontextmanager
async def writes_blocked(dsn: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A state tier that answers reads and keeps writes of items waiting, as one under load would, until what this yields
    is called."""
    connection = await asyncpg.connect(dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE agentmemory.items IN EXCLUSIVE MODE")
        yield transaction.rollback
    finally:
        await connection.close()


@pytest.mark.parametrize("chunk_bytes", [0, 13, 4_000])
async def test_stream_passes_byte_for_byte(
    agent: Agent, claude: StrictClaude, sent: list[bytes], chunk_bytes: int
) -> None:
    unknown = {"type": "content_block_novelty", "index": 9, "value": "ü"}
    blocks: list[str | dict[str, Any]] = [{"type": "thinking"}, LONG, todos("pack"), {"type": "redacted_thinking"}]
    claude.script(Reply(blocks=blocks, pings=3, extra_events=[unknown], chunk_bytes=chunk_bytes))

    answer = await agent.good("Go.")

    assert answer.passed == b"".join(sent)
    assert answer.body.count(b"event: ping\n") == 4
    assert b"event: content_block_novelty\n" in answer.body


async def test_comment_stands_just_before_message_delta(agent: Agent) -> None:
    frames = (await agent.good("Go.")).frames

    assert [frame.split()[1] for frame in frames[-3:]] == [b"agentmemory", b"message_delta", b"message_stop"]
    assert frames[-3] == b": agentmemory commit=committed turn=1 version=1\n\n"


async def test_any_framing_of_an_upstream_survives(
    start: Start, connect: Callable[..., Agent], raw: RawUpstream
) -> None:
    head = [START.replace(b"\n", b"\r\n"), b": keep-alive\n\n", b'event: novelty\ndata: {"type":"novelty"}\n\n']
    body = b"".join([*head, BLOCK, b"id: 7\nretry: 1\n" + TEXT, STOP_BLOCK, DELTA, STOP])
    raw.headers, raw.chunks = EVENT_STREAM, [body[at : at + 5] for at in range(0, len(body), 5)]
    stand = await start(upstream=raw.url)

    answer = await connect(stand).send(messages=QUESTION)

    assert answer.passed == body
    assert answer.commit == "committed"


async def test_deltas_are_not_kept_back(start: Start, connect: Callable[..., Agent], raw: RawUpstream) -> None:
    read = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield START + BLOCK + TEXT
        await read.wait()
        yield STOP_BLOCK + DELTA + STOP

    raw.headers, raw.chunks = EVENT_STREAM, chunks()
    stand = await start(upstream=raw.url)
    seen = b""
    async with connect(stand).opened(messages=QUESTION) as response:
        while not seen.endswith(TEXT):
            seen += await response.content.readany()
        read.set()
        seen += await response.content.read()

    assert seen.startswith(START + BLOCK + TEXT + STOP_BLOCK)


async def test_end_of_a_stream_is_held_until_it_is_saved_and_pings_fill_the_time(
    stand: Stand, agent: Agent, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledge, "PING_EVERY_S", 0.02)
    seen = b""
    async with writes_blocked(dsn) as release, agent.opened(messages=QUESTION) as response:
        while seen.count(b"event: ping\n") < 4:  # the first is Claude's own
            seen += await response.content.readany()
        assert b"content_block_stop" in seen
        assert b"message_delta" not in seen
        assert await stand.turn(agent.session) == 0
        await release()
        while b"message_delta" not in seen:
            seen += await response.content.readany()
        assert await stand.turn(agent.session) == 1
        assert await stand.is_free(agent.session)
        seen += await response.content.read()

    assert seen.endswith(STOP)


async def test_json_reply_is_held_until_it_is_saved(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, dsn: str
) -> None:
    agent = connect(stand, stream=False)
    async with asyncio.TaskGroup() as group, writes_blocked(dsn) as release:
        asking = group.create_task(agent.send(messages=QUESTION))
        while not claude.requests or claude.requests[0].verdict != "ok":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert not asking.done()
        await release()
        answer = await asking

    assert answer.commit == "committed"
    assert await stand.turn(agent.session) == 1


async def test_json_reply_passes_byte_for_byte(start: Start, connect: Callable[..., Agent], raw: RawUpstream) -> None:
    body = b' {"type": "message",\n "id":"msg_1", "role" :"assistant","content":[{"type":"text","text":"\\u00fc"}],"x":1.50,'
    body += b'"stop_reason":"end_turn","usage":{"output_tokens":1}}\n'
    raw.headers, raw.chunks = {"content-type": "application/json", "request-id": "req_raw", "x-new": "1"}, [body]
    stand = await start(upstream=raw.url)

    answer = await connect(stand, stream=False).send(messages=QUESTION)

    assert answer.body == body
    assert answer.headers["content-length"] == str(len(body))
    assert (answer.headers["request-id"], answer.headers["x-new"]) == ("req_raw", "1")
    assert answer.commit == "committed"


@pytest.mark.parametrize("stream", [True, False])
async def test_reply_that_comes_encoded_all_the_same_is_read(
    start: Start, connect: Callable[..., Agent], raw: RawUpstream, stream: bool
) -> None:
    reply = b'{"type":"message","id":"msg_1","role":"assistant","content":[],"stop_reason":"end_turn","usage":{}}'
    body = b"".join(WHOLE) if stream else reply
    kind = EVENT_STREAM["content-type"] if stream else "application/json"
    raw.headers, raw.chunks = {"content-type": kind, "content-encoding": "gzip"}, [gzip.compress(body)]
    stand = await start(upstream=raw.url)

    answer = await connect(stand, stream=stream, headers={"accept-encoding": "gzip, br"}).send(messages=QUESTION)

    assert raw.seen[0].header("accept-encoding") == ["identity"]
    assert "content-encoding" not in answer.headers
    assert (answer.passed if stream else answer.body) == body
    assert answer.commit == "committed"


@pytest.mark.parametrize("stream", [True, False])
async def test_receipt_says_what_was_read_injected_and_saved(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, stream: bool
) -> None:
    agent = connect(stand, stream=stream)
    claude.script([Reply(blocks=[todos("book the hall")])])
    first = await agent.good("Plan the party.")
    await agent.results(first)

    third = await agent.good("Which hall?")

    assert (first.receipt["tier"], third.receipt["tier"]) == ("empty", "hot")
    assert (first.receipt["state-version"], third.receipt["state-version"]) == ("0", "2")
    assert (first.receipt["turn"], third.receipt["turn"], third.receipt["version"]) == ("1", "3", "3")
    assert third.receipt["session"] == agent.session
    assert int(third.receipt["state-tokens"]) > 0
    assert int(third.receipt["injected-tokens"]) > 0
    assert first.receipt["injected-tokens"] == first.receipt["replayed-tokens"] == "0"
    assert stand.metric("steps", outcome="committed") == 3
