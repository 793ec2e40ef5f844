"""Claude's memory tool for agents that only declare it: run here, told as one reply, and the same in every later prompt."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from tests.claude import Fault, Reply, StrictClaude
from tests.sidecar.agents import TOOLS, Agent, Answer, tool_results, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.stand import Json, Stand

MEMORY: Json = {"type": "memory_20250818", "name": "memory"}
CREATED = "File created successfully at: /memories/notes.md"
LISTED = (
    "Here're the files and directories up to 2 levels deep in /memories, excluding hidden items:\n"
    "4K\t/memories\n12B\t/memories/notes.md"
)


def memory(command: str, **given: object) -> Json:
    """A scripted call of the memory tool."""
    return {"type": "tool_use", "name": "memory", "input": {"command": command, **given}}


def create(text: str = "likes coffee", path: str = "/memories/notes.md") -> Json:
    return memory("create", path=path, file_text=text)


VIEW = memory("view", path="/memories")


def hidden(messages: list[Json]) -> list[tuple[str, object]]:
    """The tool's calls and results in a prompt, in order: ``("create", "File created…")`` for each call."""
    results = {
        block["tool_use_id"]: block["content"]
        for message in messages
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if block["type"] == "tool_result"
    }
    return [
        (block["input"]["command"], results.get(block["id"]))
        for message in messages
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if block["type"] == "tool_use" and block["name"] == "memory"
    ]


def well_formed(answer: Answer) -> None:
    """One message: begun once, ended once, blocks numbered without a gap and each closed before the next."""
    kinds = [event["type"] for event in answer.events if event["type"] != "ping"]
    assert [kind for kind in kinds if kind.startswith("message")] == ["message_start", "message_delta", "message_stop"]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    opened = -1
    inside = False
    for event in answer.events:
        match event["type"]:
            case "content_block_start":
                assert not inside
                inside, opened = True, opened + 1
                assert event["index"] == opened
            case "content_block_delta":
                assert inside
                assert event["index"] == opened
            case "content_block_stop":
                assert inside
                assert event["index"] == opened
                inside = False
    assert not inside


@pytest.fixture(params=[True, False], ids=["stream", "json"])
async def agent(request: pytest.FixtureRequest, stand: Stand, connect: Callable[..., Agent]) -> Agent:
    """A thinking client that declares the tool and has no code for it."""
    return connect(stand, stream=request.param, extra={"tools": [*TOOLS, MEMORY]})


async def files(stand: Stand, session: str) -> Json:
    found: Json = (await stand.state(session)).get("memories", {})
    return found


async def test_calls_are_answered_and_never_shown(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(
        Reply(blocks=["Let me see.", VIEW]), Reply(blocks=["I note it.", create()]), Reply(blocks=["Noted: coffee."])
    )
    answer = await agent.good("I like coffee.")

    if answer.streamed:
        well_formed(answer)
    assert [block["type"] for block in answer.content] == ["thinking", "text"] * 3
    assert answer.text == "Let me see.I note it.Noted: coffee."
    assert answer.message["stop_reason"] == "end_turn"
    assert await files(stand, agent.session) == {"notes.md": "likes coffee"}
    assert [len(request.messages) for request in claude.requests] == [1, 3, 5]
    assert hidden(claude.requests[-1].messages)[1] == ("create", CREATED)
    assert unharmed(claude)


async def test_later_prompts_hold_what_was_hidden(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=["Let me see.", VIEW]), Reply(blocks=[create()]), "Noted.")
    await agent.good("I like coffee.")
    before = claude.requests[-1]
    for number in range(3):
        await agent.good(f"Question {number}?")

    for request in claude.requests[-3:]:
        assert hidden(request.messages) == hidden(before.messages)
        assert request.messages[: len(before.messages)] == before.messages
    assert unharmed(claude)
    assert claude.requests[-1].usage["cache_read_input_tokens"] == 0  # no client of these sets a breakpoint


async def test_usage_of_all_exchanges_is_summed(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=[VIEW]), Reply(blocks=[create()]), "Noted.")
    answer = await agent.good("I like coffee.")
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert answer.message["usage"][name] == sum(request.usage[name] for request in claude.requests)


async def test_calls_beside_the_clients_own(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    look = {"type": "tool_use", "name": "look", "input": {}}
    claude.script(
        Reply(blocks=["First.", VIEW]),
        Reply(blocks=["Both.", create(), look, VIEW, "And.", look]),
        Reply(blocks=["Seen."]),
    )
    first = await agent.good("Look and note.")
    assert [block.get("name", block["type"]) for block in first.content] == [
        "thinking", "text", "thinking", "text", "look", "text", "look"
    ]  # fmt: skip
    assert first.message["stop_reason"] == "tool_use"
    assert await files(stand, agent.session) == {"notes.md": "likes coffee"}
    await agent.results(first, "a tree")
    await agent.good("And now?")

    second = claude.requests[2].messages
    assert [block.get("name", block["type"]) for block in second[3]["content"]] == [
        "thinking", "text", "memory", "look", "memory", "text", "look",
    ]  # fmt: skip
    assert [block["type"] for block in second[4]["content"]] == ["tool_result"] * 4
    assert hidden(second)[1:] == [("create", CREATED), ("view", LISTED)]
    assert claude.requests[3].messages[:5] == second
    assert unharmed(claude)
