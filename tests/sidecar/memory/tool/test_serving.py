"""Whose the memory tool of a request is."""

from typing import Any

import msgspec
import pytest

from agentmemory_sidecar.memory.tool.serving import declared, has_own_calls, runs_tools
from agentmemory_sidecar.wire.request import MessagesRequest, parse

MEMORY = {"type": "memory_20250818", "name": "memory"}
CALL = {"type": "tool_use", "id": "t", "name": "memory", "input": {"command": "view", "path": "/memories"}}


def request(*messages: Any, tools: Any = (MEMORY,)) -> MessagesRequest:
    return parse(
        msgspec.json.encode({"messages": list(messages) or [{"role": "user", "content": "Q"}], "tools": tools})
    )


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([MEMORY], True),
        ([{"name": "look"}, {**MEMORY, "cache_control": {"type": "ephemeral"}}], True),
        ([{**MEMORY, "allowed_callers": ["direct"]}], True),
        ([{**MEMORY, "allowed_callers": ["direct", "code_execution_20260120"]}], False),
        ([{"name": "memory", "description": "like memory_20250818", "input_schema": {}}], False),
        ([], False),
    ],
)
def test_declared(tools: Any, expected: bool) -> None:
    assert declared(request(tools=tools)) is expected


def test_what_was_found_goes_on_with_the_conversation() -> None:
    first = request()
    assert declared(first)
    more = msgspec.json.encode({
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "tools": [MEMORY]
    })  # fmt: skip
    assert declared(parse(more, first))


@pytest.mark.parametrize(
    ("helper", "expected"),
    [("BetaToolRunner", True), ("BetaToolRunner, message-thread", True), ("messages.parse", False), ("", False)],
)
def test_tool_runners(helper: str, expected: bool) -> None:
    assert runs_tools({"x-stainless-helper": helper} if helper else {}) is expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "assistant", "content": [CALL]}, True),
        ({"role": "assistant", "content": [{**CALL, "name": "look"}]}, False),
        ({"role": "user", "content": 'I wrote {"name": "memory"}'}, False),
        ({"role": "user", "content": [{"type": "document", "title": "x", "source": {"name": "memory"}}]}, False),
        ({"role": "assistant", "content": "memory"}, False),
    ],
)
def test_own_calls(message: Any, expected: bool) -> None:
    assert has_own_calls(request({"role": "user", "content": "Q"}, message)) is expected
