"""How replies end that hold calls of the memory tool: committed, lost, broken off, or with nobody left to hear them."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from tests.claude import Fault, Reply, StrictClaude
from tests.sidecar.agents import TOOLS, Agent, Answer, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.memory_tool import CREATED, MEMORY, VIEW, create, files, hidden, memory
from tests.sidecar.stand import Stand


@pytest.fixture(params=[True, False], ids=["stream", "json"])
async def agent(request: pytest.FixtureRequest, stand: Stand, connect: Callable[..., Agent]) -> Agent:
    """A thinking client that declares the tool and has no code for it."""
    return connect(stand, stream=request.param, extra={"tools": [*TOOLS, MEMORY]})


@pytest.mark.parametrize(("reason", "written"), [("max_tokens", True), ("refusal", False)])
async def test_writes_are_as_true_as_their_reply(
    stand: Stand, agent: Agent, claude: StrictClaude, reason: str, written: bool
) -> None:
    claude.script(Reply(blocks=[create()]), Reply(blocks=["Noted", VIEW], stop_reason=reason))
    answer = await agent.say("I like coffee.")
    assert answer.message["stop_reason"] == reason
    assert all(block["type"] != "tool_use" for block in answer.content)
    assert (await files(stand, agent.session) != {}) is written
    await agent.good("Go on.")
    assert unharmed(claude)


async def test_reply_without_a_word_behind_its_calls(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=["I note it.", create()]), Reply(blocks=[{"type": "text", "text": "."}]))
    await agent.good("I like coffee.")
    for number in range(2):
        await agent.good(f"Question {number}?")
    assert hidden(claude.requests[-1].messages) == [("create", CREATED)]
    assert unharmed(claude)


async def test_lost_answer_is_told_again_and_its_writes_happen_once(
    stand: Stand, agent: Agent, claude: StrictClaude
) -> None:
    question = [{"role": "user", "content": "I like coffee."}]
    insert = memory("insert", path="/memories/notes.md", insert_line=0, insert_text="more")
    claude.script(Reply(blocks=["I note it.", create()]), Reply(blocks=[insert]), "Noted.")
    first = await agent.send(messages=question)
    await stand.acknowledged(agent.session)
    await stand.forget_hot()
    again = await agent.send(messages=question)

    assert (first.commit, again.commit) == ("committed", "repeated")
    assert again.message == first.message
    assert len(claude.requests) == 3
    assert await files(stand, agent.session) == {"notes.md": "more\nlikes coffee\n"}
    agent.messages = [*question, {"role": "assistant", "content": again.content}]
    await agent.good("What do I like?")
    assert len(hidden(claude.requests[-1].messages)) == 2
    assert unharmed(claude)


BROKEN = [
    Fault("status", status=529, message="Overloaded, sorry"),
    Fault("error_event", after=5),
    Fault("fin", after=5),
    Fault("cut_frame", after=5),
    Fault("no_message_stop"),
]


@pytest.mark.parametrize(
    ("stream", "fault"),
    [(True, fault) for fault in BROKEN] + [(False, fault) for fault in BROKEN[:3]],
    ids=lambda value: value.kind if isinstance(value, Fault) else "stream" if value else "json",
)
async def test_failure_in_a_hidden_exchange_saves_nothing_and_the_next_try_does(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, stream: bool, fault: Fault
) -> None:
    agent = connect(stand, stream=stream, extra={"tools": [MEMORY]})
    claude.script(Reply(blocks=["I note it.", create()]), Reply(blocks=["Noted."], fault=fault))
    failed = await agent.say("I like coffee.")

    if stream:
        well_begun(failed)
    else:
        assert failed.status in (502, 529)
    if fault.kind == "status":
        assert failed.error["message"] == "Overloaded, sorry"
    assert await stand.turn(agent.session) == 0
    assert await files(stand, agent.session) == {}
    assert await stand.is_free(agent.session)
    claude.script(Reply(blocks=["I note it.", create()]), "Noted.")
    await agent.good("I like coffee.")
    assert hidden(claude.requests[-1].messages) == [("create", CREATED)]
    await agent.good("What do I like?")
    assert hidden(claude.requests[-1].messages) == [("create", CREATED)]
    assert await files(stand, agent.session) == {"notes.md": "likes coffee"}
    assert unharmed(claude)


def well_begun(answer: Answer) -> None:
    """A stream that broke off: an error at its end, and nothing that looks like success."""
    assert answer.events[-1]["type"] == "error"
    assert not {"message_delta", "message_stop"} & set(answer.types)
    assert answer.types.count("message_start") == 1


@pytest.mark.parametrize("visible", [True, False], ids=["shown", "only-calls"])
@pytest.mark.parametrize("after", ["kept", "again"])
async def test_client_may_keep_the_beginning_of_a_reply_that_failed(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, after: str, visible: bool
) -> None:
    agent = connect(stand, extra={"tools": [*TOOLS, MEMORY]})
    begun = Reply(blocks=["I note it.", create()]) if visible else Reply(blocks=[create()], think=False)
    claude.script(begun, Reply(blocks=["Noted.", "And more."], fault=Fault("fin", after=14)))
    failed = await agent.say("I like coffee.")
    kept = failed.content[: 4 if visible else 2]
    assert [block["type"] for block in kept] == ["thinking", "text"] * (2 if visible else 1)
    question = {"role": "user", "content": "I like coffee."}
    if after == "again":  # a committed answer to the same question, that has no hidden exchange, changes nothing
        claude.script("I see.")
        await agent.fresh().send(messages=[question])
        await stand.forget_hot()

    agent.messages = [question, {"role": "assistant", "content": kept}]
    await agent.good("Go on.")

    assert hidden(claude.requests[-1].messages) == [("create", CREATED)]
    assert await files(stand, agent.session) == {}  # that turn failed: Claude was told otherwise only in what it lost
    assert unharmed(claude)


async def test_client_that_leaves_changes_nothing(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=["I note it.", create()]), Reply(fault=Fault("hang")))
    question = [{"role": "user", "content": "I like coffee."}]
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(agent.send(messages=question))
        await claude.received(2)
        asking.cancel()
    while claude.requests[1].verdict != "gone":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await stand.settled()
    assert await stand.is_free(agent.session)
    assert await stand.turn(agent.session) == 0
    claude.script(Reply(blocks=["I note it.", create()]), "Noted.")
    await agent.good("I like coffee.")
    assert await files(stand, agent.session) == {"notes.md": "likes coffee"}


async def test_client_that_leaves_has_its_step_completed_where_the_resource_says_so(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start({"onDisconnect": "Complete"})
    agent = connect(stand, extra={"tools": [MEMORY]})
    claude.script(Reply(blocks=["I note it.", create()]), Reply(blocks=["Noted."], first_byte_ms=300))
    question = [{"role": "user", "content": "I like coffee."}]
    async with agent.opened(msgspec.json.encode(agent.body(messages=question))) as response:
        await response.content.readany()
        await claude.received(2)
    while await stand.turn(agent.session) == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await files(stand, agent.session) == {"notes.md": "likes coffee"}
