"""Anthropic's own SDK against a sidecar: the memory tool declared without code, and the SDK's example with its own."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anthropic import AsyncAnthropic
from anthropic.tools.memory import BetaAsyncLocalFilesystemMemoryTool, BetaLocalFilesystemMemoryTool

from tests.claude import Reply, StrictClaude
from tests.sidecar.agents import MODEL, TOOLS, Agent, unharmed
from tests.sidecar.memory_tool import CREATED, VIEW, create, hidden, memory, well_formed
from tests.sidecar.stand import SESSION_HEADER, Json, Stand

SESSION = "sdk"
ASK: Json = {
    "model": MODEL,
    "max_tokens": 4000,
    "thinking": {"type": "adaptive"},
    "tools": [{"type": "memory_20250818", "name": "memory"}],
}
Ask = Callable[[AsyncAnthropic, Sequence[Any]], Awaitable[Any]]


def sdk(stand: Stand) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=stand.url, api_key="k", max_retries=0, default_headers={SESSION_HEADER: SESSION})


async def created(client: AsyncAnthropic, messages: Sequence[Any]) -> Any:
    return await client.messages.create(**ASK, messages=list(messages))


async def streamed(client: AsyncAnthropic, messages: Sequence[Any]) -> Any:
    async with client.messages.stream(**ASK, messages=list(messages)) as stream:
        said = [text async for text in stream.text_stream]
        answer = await stream.get_final_message()
    assert "".join(said) == "".join(block.text for block in answer.content if block.type == "text")
    return answer


async def beta(client: AsyncAnthropic, messages: Sequence[Any]) -> Any:
    return await client.beta.messages.create(**ASK, messages=list(messages), betas=["context-management-2025-06-27"])


@pytest.mark.parametrize("ask", [created, streamed, beta])
async def test_agent_without_tool_code_has_a_memory(stand: Stand, claude: StrictClaude, ask: Ask) -> None:
    claude.script(
        Reply(blocks=["Let me look.", VIEW]), Reply(blocks=[create("- likes coffee\n")]), Reply(blocks=["Noted."]),
        Reply(blocks=[memory("view", path="/memories/notes.md")]), Reply(blocks=["You like coffee."]),
    )  # fmt: skip
    async with sdk(stand) as client:
        messages: list[Any] = [{"role": "user", "content": "I like coffee. Remember that."}]
        first = await ask(client, messages)
        assert first.stop_reason == "end_turn"
        assert [block.type for block in first.content] == ["thinking", "text", "thinking", "thinking", "text"]
        assert first.usage.output_tokens == sum(request.usage["output_tokens"] for request in claude.requests)
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": "What do I like?"}]
        second = await ask(client, messages)
        messages += [{"role": "assistant", "content": second.content}, {"role": "user", "content": "Thank you."}]
        await ask(client, messages)

    assert second.content[-1].text == "You like coffee."
    assert hidden(claude.requests[-1].messages) == [
        (
            "view",
            "Here're the files and directories up to 2 levels deep in /memories, excluding hidden items:\n4K\t/memories",
        ),
        ("create", CREATED),
        ("view", "Here's the content of /memories/notes.md with line numbers:\n     1\t- likes coffee\n     2\t"),
    ]
    assert unharmed(claude)


SCRIPT = [
    ("view", {"path": "/memories"}),
    ("create", {"path": "/memories/a.md", "file_text": "one\ntwo\n"}),
    ("create", {"path": "/memories/a.md", "file_text": "x"}),
    ("view", {"path": "/memories/a.md"}),
    ("str_replace", {"path": "/memories/a.md", "old_str": "two", "new_str": "2"}),
    ("str_replace", {"path": "/memories/a.md", "old_str": "three", "new_str": "3"}),
    ("insert", {"path": "/memories/a.md", "insert_line": 1, "insert_text": "one"}),
    ("str_replace", {"path": "/memories/a.md", "old_str": "one", "new_str": "1"}),
    ("insert", {"path": "/memories/a.md", "insert_line": 9, "insert_text": "x"}),
    ("view", {"path": "/memories/a.md", "view_range": [2, 3]}),
    ("rename", {"old_path": "/memories/a.md", "new_path": "/memories/d/b.md"}),
    ("rename", {"old_path": "/memories/d", "new_path": "/memories/d"}),
    ("view", {"path": "/memories"}),
    ("view", {"path": "/memories/none"}),
    ("view", {"path": "/memories/../etc"}),
    ("view", {"path": "/etc/passwd"}),
    ("delete", {"path": "/memories"}),
    ("delete", {"path": "/memories/d/b.md"}),
    ("delete", {"path": "/memories/d/b.md"}),
    ("view", {"path": "/memories"}),
]


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_results_are_those_of_the_sdks_own_tool(
    stand: Stand, claude: StrictClaude, tmp_path: Path, streaming: bool
) -> None:
    """The same calls, answered by the SDK's example with its tool on a folder, and here for an agent without code."""
    calls = [memory(command, **given) for command, given in SCRIPT]

    async with AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0) as direct:
        claude.script(Reply(blocks=calls), "Done.")
        runner: Any = direct.beta.messages.tool_runner(
            **{name: value for name, value in ASK.items() if name != "tools"},
            tools=[BetaAsyncLocalFilesystemMemoryTool(str(tmp_path))],
            messages=[{"role": "user", "content": "Go."}],
        )
        await runner.until_done()
    theirs = _results(claude.requests[-1].prompt)
    claude.reset()
    claude.script(Reply(blocks=calls), "Done.")
    async with sdk(stand) as client:
        await (streamed if streaming else created)(client, [{"role": "user", "content": "Go."}])

    ours = _results(claude.requests[-1].prompt)
    assert len(ours) == len(SCRIPT)
    assert ours == theirs


def _results(messages: list[Json]) -> list[tuple[str, bool]]:
    """What was answered, and whether as an error. Directories are 4K here, whatever the folder's file system says."""
    return [
        (_sized(_text(block["content"])), bool(block.get("is_error")))
        for message in messages
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _sized(text: str) -> str:
    if not text.startswith("Here're"):
        return text
    head, root, *lines = text.split("\n")
    told = [f"4K\t{line.split(chr(9))[1]}" if line.endswith("/") else line for line in lines]
    return "\n".join([head, f"4K\t{root.split(chr(9))[1]}", *told])


async def test_sdks_own_example_keeps_its_own_folder(stand: Stand, claude: StrictClaude, tmp_path: Path) -> None:
    claude.script(Reply(blocks=["Let me look.", VIEW]), Reply(blocks=[create("x")]), Reply(blocks=["Noted."]))
    async with sdk(stand) as client:
        runner: Any = client.beta.messages.tool_runner(
            **{name: value for name, value in ASK.items() if name != "tools"},
            tools=[BetaAsyncLocalFilesystemMemoryTool(str(tmp_path))],
            messages=[{"role": "user", "content": "Go."}],
        )
        last = await runner.until_done()
    assert last.content[-1].text == "Noted."
    assert (tmp_path / "memories" / "notes.md").read_text() == "x"
    assert "memories" not in await stand.state(SESSION)
    assert unharmed(claude)


async def test_loop_of_ones_own_that_has_begun_goes_on(stand: Stand, claude: StrictClaude, tmp_path: Path) -> None:
    """A history from before the sidecar: its calls say who runs the tool."""
    tool = BetaLocalFilesystemMemoryTool(str(tmp_path))
    claude.script(Reply(blocks=[create("x")]), "Noted.")
    call = {"type": "tool_use", "id": "toolu_1", "name": "memory", "input": {"command": "view", "path": "/memories"}}
    listed = {"type": "tool_result", "tool_use_id": "toolu_1", "content": tool.call(call["input"])}
    messages: list[Any] = [
        {"role": "user", "content": "I like coffee."}, {"role": "assistant", "content": [call]},
        {"role": "user", "content": [listed]},
    ]  # fmt: skip
    async with sdk(stand) as client:
        answer = await created(client, messages)
        (asked,) = [block for block in answer.content if block.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": asked.id, "content": tool.call(asked.input)}
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        last = await created(client, messages)
    assert last.content[-1].text == "Noted."
    assert (tmp_path / "memories" / "notes.md").read_text() == "x"
    assert unharmed(claude)


async def test_streams_like_claude_codes(stand: Stand, connect: Callable[..., Agent], claude: StrictClaude) -> None:
    """Its headers and query, a system message behind the user's with the cache marker on it, markers that move on."""
    claude.script(
        Reply(blocks=["Looking.", VIEW]), Reply(blocks=[create("x")]), Reply(blocks=["Noted."]), Reply(blocks=["Fine."])
    )
    marked = {"cache_control": {"type": "ephemeral"}}
    keep = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    agent = connect(
        stand,
        path="/v1/messages?beta=true",
        headers={
            "user-agent": "claude-cli/2.1.330 (external, sdk-cli)", "x-app": "cli", "x-claude-code-session-id": SESSION,
            "x-claude-code-request-class": "main", "anthropic-beta": "context-management-2025-06-27",
            "authorization": "Bearer t",
        },
        extra={
            "system": [{"type": "text", "text": "You are Claude Code. " * 40, **marked}], "context_management": keep,
            "tools": [*TOOLS, *ASK["tools"]],
        },
    )  # fmt: skip
    for turn in ("I like coffee. " * 40, "What do I like?"):
        agent.messages = [*agent.messages, {"role": "user", "content": [{"type": "text", "text": turn}]}]
        behind = {"role": "system", "content": [{"type": "text", "text": "Reminder.", **marked}]}
        answer = await agent.send(messages=[*agent.messages, behind])
        well_formed(answer)
        told = {"role": "system", "content": "Reminder."}
        agent.messages = [*agent.messages, told, {"role": "assistant", "content": answer.content}]

    assert hidden(claude.requests[-1].messages)[1] == ("create", CREATED)
    assert claude.requests[-1].usage["cache_read_input_tokens"] > 0
    assert msgspec.json.decode(claude.requests[2].body)["context_management"] == keep
    assert unharmed(claude)
