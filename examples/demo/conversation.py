"""The two agents of the demonstration, on the real Anthropic SDK. Nothing here knows of a memory but the base URL."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import anthropic
from anthropic.types import Message, MessageParam, ToolParam

from examples.demo.servers import Claude

MODEL = os.environ.get("ANTHROPIC_MODEL") or "claude-haiku-5-5"
HEADER = "X-Agent-Session"
MAX_STEPS = 6
"""Steps of one turn after which something is wrong."""

TODO_WRITE: ToolParam = {
    "name": "TodoWrite",
    "description": "Writes down the whole list of tasks that are left to do.",
    "input_schema": {
        "type": "object",
        "properties": {
            "todos": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "content": {"type": "string"},
                        "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                    },
                    "required": ["content", "status"],
                },
            }
        },
        "required": ["todos"],
    },
}

TASKS = ("Write the release notes", "Book the room for the launch")
QUESTION = "What is the code name of our launch, and what is left to do for it?"


def statement(fact: str) -> str:
    tasks = " and ".join(f'"{task}"' for task in TASKS)
    return (
        f"The code name of our launch is {fact}. Put two pending tasks on your list with TodoWrite, {tasks}; "
        "then say in one sentence that you are ready."
    )


def script(claude: Claude, session: str, fact: str) -> None:
    """What the stand-in says in the first turn. In the second it is on its own: it quotes what its prompt holds."""
    todos = [{"content": task, "status": "pending"} for task in TASKS]
    claude.script([
        {"blocks": [{"type": "tool_use", "name": "TodoWrite", "input": {"todos": todos}}], "match": {"session": session}},
        {"blocks": "The list is written; I am ready.", "match": {"session": session}},
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """One line of the conversation."""

    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the sidecar says of one step, from the reply's headers. Counts are tokens."""

    tier: str
    state: int
    injected: int
    replayed: int
    commit: str
    version: str
    flags: str
    input: int
    """What Claude counted as the whole prompt."""

    @classmethod
    def of(cls, headers: Mapping[str, str], message: Message) -> "Receipt":
        def text(name: str) -> str:
            return headers.get(f"x-agentmemory-{name}", "")

        usage = message.usage
        whole = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        return cls(
            text("tier"), int(text("state-tokens") or 0), int(text("injected-tokens") or 0),
            int(text("replayed-tokens") or 0), text("commit"), text("version"), text("flags"), whole,
        )  # fmt: skip


class Agent:
    """A client with an empty history: what a restarted process, or another device, is."""

    def __init__(self, base_url: str, session: str) -> None:
        key = os.environ.get("ANTHROPIC_API_KEY") or "sk-ant-stand-in"
        self._client = anthropic.Anthropic(base_url=base_url, api_key=key, default_headers={HEADER: session})
        self._messages: list[MessageParam] = []
        self.receipts: list[Receipt] = []
        self.answer = ""

    def tell_fact(self, fact: str) -> Iterator[Said]:
        return self._turn(statement(fact))

    def ask_for_it(self) -> Iterator[Said]:
        return self._turn(QUESTION)

    def _turn(self, text: str) -> Iterator[Said]:
        yield Said("agent", text)
        self._messages.append({"role": "user", "content": text})
        for _ in range(MAX_STEPS):
            reply = self._send()
            self._messages.append({"role": "assistant", "content": reply.content})
            results: list[Any] = []
            for block in reply.content:
                if block.type == "text" and block.text.strip():
                    yield Said("Claude", block.text)
                elif block.type == "tool_use":
                    yield Said("Claude", f"calls {block.name}: {_tasks(block.input)}")
                    results.append({"type": "tool_result", "tool_use_id": block.id, "content": "The list was updated."})
            self.answer = "\n".join(block.text for block in reply.content if block.type == "text")
            if not results:
                return
            self._messages.append({"role": "user", "content": results})

    def _send(self) -> Message:
        raw = self._client.messages.with_raw_response.create(
            model=MODEL, max_tokens=1024, tools=[TODO_WRITE], messages=self._messages
        )
        message = raw.parse()
        self.receipts.append(Receipt.of(raw.headers, message))
        return message


def _tasks(given: Any) -> str:
    todos = given.get("todos", []) if isinstance(given, dict) else []
    return ", ".join(str(todo.get("content")) for todo in todos if isinstance(todo, dict))
