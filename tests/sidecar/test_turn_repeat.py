"""The same request again: told again if its answer may have been lost, asked again if it arrived."""

from collections.abc import Callable

import pytest

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import Agent, injections, todos, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.stand import Json, Stand

QUESTION: list[Json] = [{"role": "user", "content": "Plan the party."}]


async def lost(stand: Stand, agent: Agent) -> Json:
    """A step that is saved, and whose answer was not acknowledged; returns the reply."""
    answer = await agent.send(messages=QUESTION)
    assert answer.commit == "committed"
    await stand.acknowledged(agent.session)
    await stand.forget_hot()  # the mark of the acknowledgement goes with it, as when the pod dies before it
    return answer.message


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("again_as_stream", [True, False])
async def test_lost_answer_is_told_again_in_the_mode_asked_for(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, stream: bool, again_as_stream: bool
) -> None:
    agent = connect(stand, stream=stream)
    claude.script(
        Reply(blocks=[{"type": "thinking"}, "I plan: ü.", todos("book the hall"), {"type": "redacted_thinking"}])
    )
    reply = await lost(stand, agent)

    again = await agent.fresh(stream=again_as_stream).send(messages=QUESTION, max_tokens=77, metadata={"user_id": "x"})

    assert again.streamed == again_as_stream
    assert (again.commit, again.receipt["turn"], again.receipt["version"]) == ("repeated", "1", "1")
    assert again.message == reply
    assert len(claude.requests) == 1
    assert await stand.turn(agent.session) == 1
    assert await stand.sub_tasks(agent.session) == ["book the hall"]
    assert await stand.locks(agent.session) == []
    assert stand.metric("repeated_replies") == 1
    # Its thinking is as good as the first time.
    agent.messages = [*QUESTION, {"role": "assistant", "content": again.content}]
    calls = [block["id"] for block in again.content if block["type"] == "tool_use"]
    await agent.good([{"type": "tool_result", "tool_use_id": calls[0], "content": "done"}])
    assert unharmed(claude)


async def test_told_once_and_acknowledged_it_is_asked_again(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await lost(stand, agent)
    assert (await agent.send(messages=QUESTION)).commit == "repeated"
    await stand.acknowledged(agent.session)

    third = await agent.send(messages=QUESTION)

    assert third.commit == "committed"
    assert len(claude.requests) == 2


async def test_regenerate_asks_claude_again(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script("One.", "Two.")
    first = await agent.send(messages=QUESTION)
    await stand.acknowledged(agent.session)

    second = await agent.send(messages=QUESTION)

    assert (first.text, second.text, second.commit) == ("One.", "Two.", "committed")


@pytest.mark.parametrize(
    "change",
    [
        {"system": "You are someone else."},
        {"tools": None},
        {"messages": [{"role": "user", "content": "Plan the party!"}]},
        {"messages": [*QUESTION, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Do."}]},
    ],
    ids=["system", "tools", "messages", "longer"],
)
async def test_another_request_is_not_answered_from_it(
    stand: Stand, agent: Agent, claude: StrictClaude, change: Json
) -> None:
    await lost(stand, agent)

    whole: Json = {"messages": QUESTION} | change
    answer = await agent.send(**whole)

    assert answer.commit == "committed"
    assert len(claude.requests) == 2


async def test_request_in_another_form_is_the_same(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await lost(stand, agent)
    marked = [{"type": "text", "text": " Plan the party.\n", "cache_control": {"type": "ephemeral"}}]

    answer = await agent.send(messages=[{"content": marked, "role": "user"}])

    assert answer.commit == "repeated"


async def test_other_sessions_and_agents_are_not_answered_from_it(
    stand: Stand, connect: Callable[..., Agent], agent: Agent, claude: StrictClaude
) -> None:
    await lost(stand, agent)

    other = await connect(stand).send(messages=QUESTION)
    sub = await agent.fresh(headers={"x-claude-code-agent-id": "a1"}).send(messages=QUESTION)

    assert (other.commit, sub.commit) == ("committed", "committed")
    assert len(claude.requests) == 3


async def test_after_ten_minutes_it_is_asked_again(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await lost(stand, agent)
    now = stand.services.now()
    stand.services.now = lambda: now + 601

    assert (await agent.send(messages=QUESTION)).commit == "committed"
    assert len(claude.requests) == 2


async def test_reply_that_cannot_be_told_whole_is_asked_again(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    """An event that nobody here knows may have told the client something."""
    claude.script(Reply(blocks=["One."], extra_events=[{"type": "novelty", "value": 1}]))
    await lost(stand, agent)

    assert (await agent.send(messages=QUESTION)).commit == "committed"
    assert len(claude.requests) == 2


async def test_another_pod_tells_it_again(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    """A killed pod's turn is not paid twice."""
    first = await start()
    agent = connect(first)
    reply = await lost(first, agent)
    second = await start(first.config, pod="another")

    again = await connect(second, session=agent.session).send(messages=QUESTION)

    assert (again.commit, again.message) == ("repeated", reply)


async def test_next_turn_after_a_repeat_replays_what_stood_there(
    stand: Stand, agent: Agent, claude: StrictClaude
) -> None:
    await stand.remember(agent.session, {"extracted_context": {"party": "The party is on Friday"}})
    await lost(stand, agent)
    again = await agent.send(messages=QUESTION)
    assert again.commit == "repeated"
    agent.messages = [*QUESTION, {"role": "assistant", "content": again.content}]

    await agent.good("Go on.")

    assert len(injections(claude.requests[-1].messages[:1])) == 1
    assert unharmed(claude)
