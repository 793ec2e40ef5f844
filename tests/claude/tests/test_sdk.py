"""The real SDK, unmodified, against the stand-in: several turns with tools and thinking, streaming and not."""

from typing import Any

import pytest
from anthropic import AsyncAnthropic, BadRequestError, NotFoundError, beta_async_tool

from tests.claude import StrictClaude
from tests.claude.tests.http import MODEL

ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 4000, "thinking": {"type": "adaptive"}}
TOOLS = [{"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}]


def sdk(claude: StrictClaude) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0)


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_several_turns_with_tools_and_thinking(claude: StrictClaude, streaming: bool) -> None:
    messages: list[Any] = []
    shapes = []
    async with sdk(claude) as client:
        for question in (
            'Look! [[tool:look {}]] [[tool:look {"at": [[1]]}]]',
            "Again? [[tool:look {}]] [[then]] [[say: Seen.]]",
        ):
            messages.append({"role": "user", "content": question})
            while True:
                asked: dict[str, Any] = {**ASK, "messages": messages, "tools": TOOLS, "system": "Look after things."}
                if streaming:
                    async with client.messages.stream(**asked) as stream:
                        answer: Any = await stream.get_final_message()
                else:
                    answer = await client.messages.create(**asked)
                shapes.append((answer.stop_reason, [block.type for block in answer.content]))
                messages.append({"role": "assistant", "content": answer.content})
                if answer.stop_reason != "tool_use":
                    break
                results = [
                    {"type": "tool_result", "tool_use_id": block.id, "content": f"saw {block.input}"}
                    for block in answer.content
                    if block.type == "tool_use"
                ]
                messages.append({"role": "user", "content": results})
    assert shapes == [
        ("tool_use", ["thinking", "tool_use", "tool_use"]),
        ("end_turn", ["thinking", "text"]),
        ("tool_use", ["thinking", "tool_use"]),
        ("end_turn", ["thinking", "text"]),
    ]
    assert messages[3]["content"][1].text == "The tool gave: saw {}\nThe tool gave: saw {'at': [[1]]}"
    assert claude.counters["thinking_mismatches"] == 0
    assert [one.verdict for one in claude.requests] == ["ok"] * 4


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_tool_runner_holds_a_thread_by_default(claude: StrictClaude, streaming: bool) -> None:
    looked: list[str] = []

    @beta_async_tool
    async def look(at: str) -> str:
        """Looks at something.

        Args:
            at: what
        """
        looked.append(at)
        return f"saw {at}"

    question: Any = {"role": "user", "content": '[[tool:look {"at": "a"}]] [[then]] [[tool:look {"at": "b"}]]'}
    async with sdk(claude) as client:
        asked: Any = {**ASK, "messages": [question], "tools": [look], "system": "Look after things."}
        if streaming:
            final: Any = None
            async for stream in client.beta.messages.tool_runner(**asked, stream=True):
                final = await stream.get_final_message()
        else:
            final = await client.beta.messages.tool_runner(**asked).until_done()
    assert final.content[-1].text == "The tool gave: saw b"
    assert looked == ["a", "b"]
    sent = [(one.parsed["thread"]["type"], len(one.messages), "system" in one.parsed) for one in claude.requests]
    assert sent == [("create", 1, True), ("continue", 1, False), ("continue", 1, False)]
    assert [len(one.prompt) for one in claude.requests] == [1, 3, 5]


async def test_tool_runner_without_threads_sends_everything(claude: StrictClaude) -> None:
    @beta_async_tool
    async def look() -> str:
        """Looks."""
        return "saw it"

    question: Any = {"role": "user", "content": "[[tool:look {}]]"}
    async with sdk(claude) as client:
        asked: Any = {**ASK, "messages": [question], "tools": [look], "thread": False}
        await client.beta.messages.tool_runner(**asked).until_done()
    assert [len(one.messages) for one in claude.requests] == [1, 3]


async def test_version_and_headers_of_the_sdk(claude: StrictClaude) -> None:
    async with sdk(claude) as client:
        answer = await client.messages.create(
            model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "hello"}]
        )
        with pytest.raises(BadRequestError) as refused:
            await client.messages.create(
                model=MODEL,
                max_tokens=50,
                messages=[{"role": "user", "content": "hello"}],
                extra_body={"temperature": 1},
            )
        with pytest.raises(NotFoundError) as missing:
            await client.messages.create(
                model="claude-2", max_tokens=5, messages=[{"role": "user", "content": "hello"}]
            )
        models = [model.id async for model in client.models.list()]
        counted = await client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    assert answer._request_id == claude.requests[0].request_id
    assert claude.requests[0].headers["anthropic-version"] == "2026-10-21"
    assert refused.value.request_id == claude.requests[1].request_id
    assert missing.value.body["error"]["message"] == "model: claude-2"  # type: ignore[index]
    assert MODEL in models
    assert counted.input_tokens == answer.usage.input_tokens
