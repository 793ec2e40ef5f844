"""What a failing upstream, or a client that leaves, means for a step: an honest error, nothing saved, a free session."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.claude import Fault, Reply, StrictClaude
from tests.sidecar.agents import Agent, todos
from tests.sidecar.conftest import Configure, Start
from tests.sidecar.raw import BLOCK, CUT, EVENT_STREAM, STALL, START, TEXT, WHOLE, RawUpstream
from tests.sidecar.stand import Stand

QUESTION = [{"role": "user", "content": "Go."}]
OVERLOADED = (
    b'{"type":"error", "error":{"type":"overloaded_error","message":"Overloaded \xc3\xbc"}, "request_id":"req_1"}'
)


def hurried(configure: Configure, upstream: str = "", **spec: Any) -> Any:
    """A configuration that waits for an upstream no longer than a test should."""
    config = configure(spec, upstream=upstream)
    return config.model_copy(update={"upstream": config.upstream.model_copy(update={"idle_timeout_s": 0.7})})


async def goes_on(stand: Stand, agent: Agent) -> None:
    """Nothing was saved, nothing is held, and the next request, which comes at once, is served."""
    assert await stand.turn(agent.session) == 0
    assert (await agent.good("Once more.")).receipt["turn"] == "1"


@pytest.mark.parametrize("stream", [True, False])
async def test_error_reply_is_relayed_unchanged(
    start: Start, connect: Callable[..., Agent], raw: RawUpstream, stream: bool
) -> None:
    raw.status, raw.chunks = 529, [OVERLOADED]
    raw.headers = {
        "content-type": "application/json", "retry-after": "7", "request-id": "req_1", "x-should-retry": "true",
        "anthropic-ratelimit-requests-remaining": "0",
    }  # fmt: skip
    stand = await start(upstream=raw.url)
    agent = connect(stand, stream=stream)

    answer = await agent.send(messages=QUESTION)

    assert (answer.status, answer.body) == (529, OVERLOADED)
    assert {name: answer.headers[name] for name in raw.headers} == raw.headers
    assert not any(name.startswith("x-agentmemory") for name in answer.headers)
    assert await stand.locks(agent.session) == []
    assert await stand.turn(agent.session) == 0


async def test_refusal_of_a_bad_request_reaches_the_client_word_for_word(
    stand: Stand, agent: Agent, claude: StrictClaude
) -> None:
    answer = await agent.send(messages=[{"role": "user", "content": []}], max_tokens=-3)

    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert answer.error["message"] == claude.requests[0].message
    assert answer.headers["request-id"] == claude.requests[0].request_id
    await goes_on(stand, agent)


@pytest.mark.parametrize("after", [0, 4])
async def test_error_event_is_relayed_unchanged(stand: Stand, agent: Agent, claude: StrictClaude, after: int) -> None:
    claude.script(Reply(fault=Fault("error_event", after=after, message="Overloaded, sorry")))

    answer = await agent.send(messages=QUESTION)

    assert answer.events[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded, sorry"},
        "request_id": claude.requests[0].request_id,
    }
    assert len(answer.events) == after + 1
    assert "message_delta" not in answer.types
    await goes_on(stand, agent)


@pytest.mark.parametrize("behind", [CUT, STALL])
async def test_error_event_is_relayed_whatever_the_upstream_does_next(
    start: Start, connect: Callable[..., Agent], configure: Configure, raw: RawUpstream, behind: bytes
) -> None:
    event = b"event: error\ndata: " + OVERLOADED + b"\n\n"
    raw.headers, raw.chunks = EVENT_STREAM, [START, event, behind]
    stand = await start(hurried(configure, raw.url))
    agent = connect(stand)

    answer = await agent.send(messages=QUESTION)

    assert answer.frames[-1] == event
    assert await stand.locks(agent.session) == []


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        (Fault("fin"), "upstream_cut", "api_error"),
        (Fault("rst"), "upstream_cut", "api_error"),
        (Fault("cut_frame"), "upstream_cut", "api_error"),
        (Fault("fin", after=0), "upstream_cut", "api_error"),
        (Fault("no_message_delta"), "upstream_cut", "api_error"),
        (Fault("no_message_stop"), "upstream_cut", "api_error"),
        (Fault("stall"), "upstream_timeout", "timeout_error"),
    ],
    ids=str,
)
async def test_broken_stream_ends_in_an_error_event_and_a_cut(
    start: Start,
    connect: Callable[..., Agent],
    configure: Configure,
    claude: StrictClaude,
    fault: Fault,
    code: str,
    kind: str,
) -> None:
    stand = await start(hurried(configure))
    agent = connect(stand)
    claude.script(Reply(blocks=[todos("never"), "x"], fault=fault))

    answer = await agent.send(messages=QUESTION)

    assert answer.cut, "a client must not take this for a clean end"
    assert answer.status == 200
    assert (answer.code, answer.error["type"]) == (code, kind)
    assert answer.frames[-1].startswith(b"event: error\n")
    assert not {"message_delta", "message_stop"} & set(answer.types)
    assert not (await stand.state(agent.session))
    await goes_on(stand, agent)
    assert stand.metric("failed_steps", reason=code) == 1


@pytest.mark.parametrize(
    ("fault", "status", "code", "kind"),
    [
        (Fault("fin"), 502, "upstream_cut", "api_error"),
        (Fault("rst"), 502, "upstream_cut", "api_error"),
        (Fault("hang"), 504, "upstream_timeout", "timeout_error"),
    ],
    ids=str,
)
async def test_broken_json_reply_is_an_error(
    start: Start, connect: Callable[..., Agent], configure: Configure, claude: StrictClaude,
    fault: Fault, status: int, code: str, kind: str,
) -> None:  # fmt: skip
    stand = await start(hurried(configure))
    agent = connect(stand, stream=False)
    claude.script(Reply(fault=fault))

    answer = await agent.send(messages=QUESTION)

    assert (answer.status, answer.code, answer.error["type"]) == (status, code, kind)
    assert answer.headers["request-id"].startswith("req_")
    await goes_on(stand, agent)


async def test_silence_before_a_stream_is_a_504(
    start: Start, connect: Callable[..., Agent], configure: Configure, claude: StrictClaude
) -> None:
    stand = await start(hurried(configure))
    agent = connect(stand)
    claude.script(Reply(fault=Fault("hang")))

    answer = await agent.send(messages=QUESTION)

    assert (answer.status, answer.error["type"]) == (504, "timeout_error")
    await goes_on(stand, agent)


async def test_slow_stream_that_is_never_silent_for_long_is_served(
    start: Start, connect: Callable[..., Agent], configure: Configure, claude: StrictClaude
) -> None:
    stand = await start(hurried(configure))
    claude.script(Reply(pace_ms=50))

    answer = await connect(stand).good("Go.")

    assert answer.types[-1] == "message_stop"


async def test_upstream_that_is_not_there_is_a_502(start: Start, connect: Callable[..., Agent]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        stand = await start(upstream=f"http://127.0.0.1:{unused.getsockname()[1]}")
        agent = connect(stand)

        answer = await agent.send(messages=QUESTION)

    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert answer.headers["x-should-retry"] == "true"
    assert await stand.locks(agent.session) == []
    assert await stand.turn(agent.session) == 0


async def test_session_is_free_before_the_failure_shows(
    start: Start, connect: Callable[..., Agent], configure: Configure, raw: RawUpstream
) -> None:
    raw.headers, raw.chunks = EVENT_STREAM, [START, BLOCK, CUT]
    stand = await start(hurried(configure, raw.url))
    agent = connect(stand)
    async with agent.opened(messages=QUESTION) as response:
        seen = b""
        while b"event: error" not in seen:
            seen += await response.content.readany()
        assert await stand.locks(agent.session) == []


async def test_failed_and_refused_steps_are_recorded_without_content(
    start: Start, connect: Callable[..., Agent], configure: Configure, claude: StrictClaude
) -> None:
    stand = await start(hurried(configure))
    agent = connect(stand)
    claude.script(Reply(blocks="half a secret", fault=Fault("fin")))
    await agent.send(messages=QUESTION)
    await agent.good("Once more.")
    await stand.settled()

    failed, good = await stand.records(agent.session)

    assert (failed["kind"], failed["payload"]["outcome"]) == ("failed", "upstream_cut")
    assert set(failed["payload"]) == {"step", "outcome"}
    assert good["kind"] == "step"
    assert good["prev"] != failed["prev"] == ""


# --------------------------------------------------------------------------------------------------------- disconnects


@pytest.mark.parametrize("chunks", [[STALL], [START, BLOCK, TEXT, STALL]], ids=["before", "within"])
async def test_client_that_leaves_cancels_the_step(
    start: Start, connect: Callable[..., Agent], raw: RawUpstream, chunks: list[bytes]
) -> None:
    raw.headers, raw.chunks = EVENT_STREAM, chunks
    stand = await start(upstream=raw.url)
    agent = connect(stand)
    async with agent.opened(messages=QUESTION) as response:
        if len(chunks) > 1:
            assert await response.content.readany()
        response.close()

    await raw.gone.wait()
    await stand.settled()
    assert await stand.locks(agent.session) == []
    raw.chunks = WHOLE
    assert (await agent.good("Once more.")).receipt["turn"] == "1"
    assert stand.metric("disconnects") >= 1


async def test_client_that_leaves_a_json_reply_cancels_the_step(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(stand, stream=False)
    claude.script(Reply(fault=Fault("hang")))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.send(messages=QUESTION))
        await claude.received(1)
        asking.cancel()
    while claude.requests[0].verdict != "gone":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await stand.settled()

    assert await stand.locks(agent.session) == []
    await goes_on(stand, agent)


@pytest.mark.parametrize("stream", [True, False])
async def test_step_is_completed_for_a_client_that_left_where_the_resource_says_so(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude, stream: bool
) -> None:
    stand = await start({"onDisconnect": "Complete"})
    agent = connect(stand, stream=stream)
    claude.script(Reply(blocks=["word " * 200], pace_ms=5, first_byte_ms=0 if stream else 200))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_first_bytes(agent) if stream else agent.send(messages=QUESTION))
        await claude.received(1)
        if stream:
            await asking
        else:
            asking.cancel()
    await stand.settled()

    assert claude.requests[0].verdict == "ok"
    assert await stand.turn(agent.session) == 1
    assert await stand.locks(agent.session) == []
    # The client has not seen it, so the same request again is answered from it.
    again = await agent.send(messages=QUESTION)
    assert again.commit == "repeated"
    assert again.text == "word " * 200
    assert len(claude.requests) == 1


async def _first_bytes(agent: Agent) -> None:
    async with agent.opened(messages=QUESTION) as response:
        await response.content.readany()
        response.close()
