"""Claude's memory tool for agents that only declare it: run here, told as one reply, and the same in every later prompt."""

from collections.abc import Callable

import msgspec
import pytest

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import TOOLS, Agent, unharmed
from tests.sidecar.conftest import Start
from tests.sidecar.memory_tool import CREATED, LISTED, MEMORY, VIEW, create, files, hidden, memory, well_formed
from tests.sidecar.stand import Json, Stand
from tests.sidecar.test_turn_ledger import FORMS


@pytest.fixture(params=[True, False], ids=["stream", "json"])
async def agent(request: pytest.FixtureRequest, stand: Stand, connect: Callable[..., Agent]) -> Agent:
    """A thinking client that declares the tool and has no code for it."""
    return connect(stand, stream=request.param, extra={"tools": [*TOOLS, MEMORY]})


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


async def test_caches_hold_what_was_hidden(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    def marked(text: str) -> list[Json]:
        return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]

    claude.script(Reply(blocks=["Let me see.", VIEW]), Reply(blocks=[create("coffee " * 400)]), "Noted.")
    await agent.good(marked("I like coffee. " * 50))
    first = claude.requests[-1].usage
    answer = await agent.good(marked("What do I like?"))

    assert answer.message["usage"]["cache_creation_input_tokens"] > 700  # what was hidden is in the cached prefix now
    again = await agent.good(marked("And now?"))
    written = first["cache_read_input_tokens"] + answer.message["usage"]["cache_creation_input_tokens"]
    assert again.message["usage"]["cache_read_input_tokens"] >= written
    assert unharmed(claude)


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


# ------------------------------------------------------------------------------------------------------------- whose it is


@pytest.mark.parametrize(
    "how",
    [
        {"headers": {"x-stainless-helper": "BetaToolRunner, message-thread"}},
        {"extra": {"tools": [{**MEMORY, "allowed_callers": ["direct", "code_execution_20260120"]}]}},
    ],
)
async def test_agent_with_the_tool_of_its_own_is_left_alone(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, how: Json
) -> None:
    agent = connect(stand, **({"extra": {"tools": [*TOOLS, MEMORY]}} | how))
    claude.script(Reply(blocks=["Let me see.", VIEW]))
    answer = await agent.good("I like coffee.")
    assert [block["type"] for block in answer.content] == ["thinking", "text", "tool_use"]
    await agent.results(answer, "nothing here")
    assert len(claude.requests) == 2
    assert unharmed(claude)


async def test_never_is_never(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    agent = connect(await start({"memoryTool": {"serve": "Never"}}), extra={"tools": [MEMORY]})
    claude.script(Reply(blocks=[VIEW]))
    answer = await agent.good("I like coffee.")
    assert answer.content[-1]["name"] == "memory"


async def test_tool_that_is_not_declared_is_none_of_ours(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    own = {"name": "memory", "description": "The agent's own.", "input_schema": {"type": "object"}}
    agent = connect(stand, extra={"tools": [own]})
    claude.script(Reply(blocks=[VIEW]))
    answer = await agent.good("I like coffee.")
    await agent.results(answer)
    assert len(claude.requests) == 2


async def test_agent_whose_history_has_calls_runs_the_tool_itself_and_goes_on_to(
    stand: Stand, agent: Agent, claude: StrictClaude
) -> None:
    call = {**VIEW, "id": "toolu_01"}
    result = {"type": "tool_result", "tool_use_id": "toolu_01", "content": "nothing here"}
    agent.thinking = False
    agent.messages = [
        {"role": "user", "content": "I like coffee."}, {"role": "assistant", "content": [call]},
    ]  # fmt: skip
    claude.script("Noted.", Reply(blocks=[VIEW]))
    await agent.good([result])
    agent.messages = []  # it has compacted its history
    answer = await agent.good("What do I like?")
    assert answer.content[-1]["name"] == "memory"


async def test_subagents_have_the_sessions_files(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=[create()]), "Noted.")
    await agent.good("I like coffee.")
    sub = agent.fresh(headers={"X-Claude-Code-Agent-Id": "a1"})
    claude.script(Reply(blocks=[VIEW, create("x", "/memories/sub.md")]), "Seen.")
    await sub.good("What is there?")
    await stand.settled()

    assert hidden(claude.requests[-1].messages)[0] == ("view", LISTED)
    assert await files(stand, agent.session) == {"notes.md": "likes coffee", "sub.md": "x"}


async def test_projects_share_files_up_to_what_the_state_itself_holds(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    stand = await start({"state": {"scope": "Project"}, "session": {"identity": {"projectHeaders": ["X-Project"]}}})
    anna, ben = (
        connect(stand, headers={"X-Project": "apollo", "X-User": user}, extra={"tools": [MEMORY]}) for user in "ab"
    )
    claude.script(Reply(blocks=[create(), create("x" * 17_000, "/memories/long.md")]), "Noted.")
    await anna.good("I like coffee.", max_tokens=60_000)
    assert "the limit for one file is 16384 bytes" in str(hidden(claude.requests[-1].messages)[1][1])
    await stand.settled()
    claude.script(Reply(blocks=[VIEW]), "Seen.")
    await ben.good("What is there?")
    assert hidden(claude.requests[-1].messages) == [("view", LISTED)]


async def test_long_files_lie_in_the_blob_store(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    text = "".join(f"line {number} is as long as this\n" for number in range(1_000))
    claude.script(Reply(blocks=[create(text)], times=1), "Noted.")
    await agent.good("Note it.", max_tokens=60_000)
    assert len((await stand.item(agent.session)).state) < 2_000
    edit = memory("str_replace", path="/memories/notes.md", old_str="line 500 is", new_str="line 500 was")
    moved = memory("rename", old_path="/memories/notes.md", new_path="/memories/a/b.md")
    view = memory("view", path="/memories/a/b.md", view_range=[501, 501])
    claude.script(Reply(blocks=[VIEW]), Reply(blocks=[edit, moved, view]), "Done.")
    await agent.good("Change it.")

    listed, edited, renamed, viewed = (str(result) for _, result in hidden(claude.requests[-1].messages)[1:])
    assert listed.endswith("27.2K\t/memories/notes.md")
    assert "   501\tline 500 was as long as this\n" in edited
    assert renamed == "Successfully renamed /memories/notes.md to /memories/a/b.md"
    assert viewed.endswith(":\n   501\tline 500 was as long as this")
    claude.script(Reply(blocks=[memory("rename", old_path="/memories/a", new_path="/memories/c")]), Reply(
        blocks=[memory("view", path="/memories/c/b.md", view_range=[1, 1])]), "Done.")  # fmt: skip
    await agent.good("Move it.")
    assert str(hidden(claude.requests[-1].messages)[-1][1]).endswith(":\n     1\tline 0 is as long as this")
    assert unharmed(claude)


# ------------------------------------------------------------------------------------------------------------------ limits


async def test_rounds_are_bounded_and_then_claude_must_answer(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude
) -> None:
    agent = connect(await start({"memoryTool": {"maxRounds": 3}}), extra={"tools": [MEMORY]})
    claude.script(Reply(blocks=[VIEW], times=3), "Well.")
    answer = await agent.good("Go on looking.")
    assert answer.text == "Well."
    choices = [msgspec.json.decode(request.body).get("tool_choice") for request in claude.requests]
    assert choices == [None, None, None, {"type": "none"}]


@pytest.mark.parametrize("stream", [True, False])
async def test_claude_that_never_stops_is_an_error_and_nothing_is_saved(
    start: Start, connect: Callable[..., Agent], claude: StrictClaude, stream: bool
) -> None:
    stand = await start({"memoryTool": {"maxRounds": 2}})
    agent = connect(stand, stream=stream, extra={"tools": [MEMORY]})
    claude.script(Reply(blocks=[create()], times=0))
    answer = await agent.send(messages=[{"role": "user", "content": "Go."}])
    assert answer.code == "memory_tool_rounds"
    assert len(claude.requests) == 3
    assert await stand.turn(agent.session) == 0
    assert await stand.is_free(agent.session)


async def test_bytes_are_bounded(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    stand = await start({"memoryTool": {"maxBytes": "8Ki"}})
    agent = connect(stand, extra={"tools": [MEMORY]})
    await stand.remember(agent.session, {"memories": {"notes.md": "coffee\n" * 600}})
    read = memory("view", path="/memories/notes.md")
    part = memory("view", path="/memories/notes.md", view_range=[1, 3])
    claude.script(Reply(blocks=[read, part]), Reply(blocks=[part]), Reply(blocks=["Coffee."]))
    await agent.good("Go on looking.")
    assert [str(result)[:28] for _, result in hidden(claude.requests[-1].messages)] == [
        "This is more than can be sho", "Here's the content of /memor", "Here's the content of /memor",
    ]  # fmt: skip


async def test_forced_call_is_forced_once(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=[VIEW]), "Nothing.")
    forced = {"type": "tool", "name": "memory"}
    answer = await agent.good("Look.", tool_choice=forced)
    assert answer.text == "Nothing."
    choices = [msgspec.json.decode(request.body).get("tool_choice") for request in claude.requests]
    assert choices == [forced, {"type": "auto"}]


# ------------------------------------------------------------------------------------------------- other prompts and pods


@pytest.mark.parametrize("form", FORMS)
async def test_history_in_another_form_is_the_same_history(
    stand: Stand, connect: Callable[..., Agent], claude: StrictClaude, form: str
) -> None:
    agent = connect(stand, extra={"tools": [*TOOLS, MEMORY]})
    look = {"type": "tool_use", "name": "look", "input": {}}
    claude.script(Reply(blocks=["Let me see.", VIEW]), Reply(blocks=["Both.", create(), look]), "Noted.")
    await agent.results(await agent.good("I like coffee."))
    for number in range(2):
        agent.messages = [*agent.messages, {"role": "user", "content": f"Question {number}?"}]
        answer = await agent.send(messages=FORMS[form](agent.messages))
        agent.messages = [*agent.messages, {"role": "assistant", "content": answer.content}]
    assert [name for name, _ in hidden(claude.requests[-1].messages)] == ["view", "create"]
    assert unharmed(claude)


async def test_requests_that_only_read_hold_it_too(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=["I note it.", create()]), "Noted.")
    await agent.good("I like coffee.")
    count = Agent(agent.url, agent.session, path="/v1/messages/count_tokens", http=agent.http, messages=agent.messages)
    body = agent.body(messages=[*agent.messages, {"role": "user", "content": "And?"}])
    answer = await count.send(msgspec.json.encode({n: body[n] for n in ("model", "messages", "tools", "system")}))
    assert answer.status == 200
    assert hidden(claude.requests[-1].messages) == [("create", CREATED)]


async def test_rewound_history_has_what_was_hidden_in_it(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=["I note it.", create()]), "Noted.", Reply(blocks=[VIEW]), "Coffee.")
    await agent.good("I like coffee.")
    early = agent.messages
    await agent.good("What do I like?")
    agent.messages = early
    await agent.good("Something else.")
    assert hidden(claude.requests[-1].messages) == [("create", CREATED)]
    assert unharmed(claude)


async def test_another_sidecar_goes_on(start: Start, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    one = await start()
    two = await start(one.config)
    agent = connect(one, extra={"tools": [*TOOLS, MEMORY]})
    look = {"type": "tool_use", "name": "look", "input": {}}
    claude.script(Reply(blocks=[create()]), Reply(blocks=["Both.", VIEW, look]))
    first = await agent.good("Look and note.")
    await one.settled()
    await one.forget_hot()
    agent.url = two.url
    await agent.results(first, "a tree")
    assert hidden(claude.requests[-1].messages) == [("create", CREATED), ("view", LISTED)]
    assert unharmed(claude)


async def test_files_go_into_no_prompt_by_themselves(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    await stand.remember(agent.session, {"memories": {"notes.md": "the key is kept by the porter"}})
    await agent.good("Who keeps the key? The porter?")
    assert "kept by the porter" not in str(claude.requests[-1].messages)


async def test_record_holds_what_was_hidden(stand: Stand, agent: Agent, claude: StrictClaude) -> None:
    claude.script(Reply(blocks=["I note it.", create()]), "Noted.")
    await agent.good("I like coffee.")
    await stand.settled()
    (record,) = await stand.records(agent.session, export=True)
    (one,) = record["payload"]["injected"]["rounds"]
    assert one["calls"][0]["input"]["file_text"] == "likes coffee"
    assert one["results"][0]["content"] == CREATED
    assert record["payload"]["patch"]["operations"][0]["pointer"] == "/memories/notes.md"
