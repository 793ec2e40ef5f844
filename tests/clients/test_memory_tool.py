"""Clients that declare Claude's memory tool and have no code for it, with tools of their own beside it."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import new_home
from tests.clients.driving import Scenario, drive
from tests.clients.servers import Claude
from tests.clients.sidecar import Sidecar

pytestmark = [pytest.mark.client, pytest.mark.xdist_group("clients")]

VIEW = '[[tool: memory {"command": "view", "path": "/memories"}]]'
CREATE = '[[tool: memory {"command": "create", "path": "/memories/notes.md", "file_text": "likes the sea"}]]'
READ = '[[tool: memory {"command": "view", "path": "/memories/notes.md"}]]'
TURNS = (
    f"I like the sea. [[say: Let me see.]] {VIEW} [[then]] [[think: Well.]] {CREATE} [[then]] [[say: Noted.]]",
    f'Where to? [[say: Both.]] {READ} [[tool: lookup {{"key": "Oslo"}}]] [[then]] [[say: To Oslo, by sea.]]',
    "Thank you. [[say: You are welcome.]]",
)
WAYS = {
    "anthropic-2": ("json", "stream"),
    "anthropic-1": ("json", "stream"),
    "anthropic-0": ("json", "stream"),
    "typescript": ("json", "stream"),
    "langchain": ("json", "stream"),
}


@pytest.mark.parametrize("client", WAYS)
def test_memory_without_tool_code(client: str, sidecar: Sidecar, upstream: Claude, space: Path) -> None:
    memory = ({"type": "memory_20250818", "name": "memory"},)
    scenarios = [Scenario(str(uuid.uuid4()), TURNS, way, tools=memory) for way in WAYS[client]]

    seen = drive(client, sidecar.url, new_home(space), *scenarios)

    for scenario, one in zip(scenarios, seen, strict=True):
        assert one.errors == [], scenario.way
        assert [reply["stop_reason"] for reply in one.replies] == ["end_turn", "tool_use", "end_turn", "end_turn"]
        assert [[tool["name"] for tool in reply["tools"]] for reply in one.replies] == [[], ["lookup"], [], []]
        assert "".join(one.replies[0]["text"].split()) == "Letmesee.Noted."
        assert one.replies[2]["text"] == "To Oslo, by sea."
        requests = upstream.requests(scenario.session)
        assert len(requests) == 6
        assert all(request["verdict"] == "ok" for request in requests), [request["message"] for request in requests]
        assert _results(requests[-1]["parsed"]["messages"])[:3] == [
            "Here're the files and directories up to 2 levels deep in /memories, excluding hidden items:\n4K\t/memories",
            "File created successfully at: /memories/notes.md",
            "Here's the content of /memories/notes.md with line numbers:\n     1\tlikes the sea",
        ]


def _results(messages: list[dict[str, Any]]) -> list[Any]:
    return [
        block["content"]
        for message in messages
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
