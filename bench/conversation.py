"""A worker's agent: a conversation of about 20 KB that grows by a turn with each request and is never sent twice.

A session begins with four earlier turns (text, tool calls, file contents). Its first step asks for a plan, which Claude
answers with a to-do list (the session's state from then on); the second carries that tool's result; each later step is
a turn of its own with a question about one area of the list. After :data:`TURNS` of them a new session begins.
"""

import json
import random
from dataclasses import dataclass
from typing import Any

from bench import canned

TURNS = 14
STEPS = TURNS + 2
"""Steps of a session: the plan, its tool result, and the turns."""

_FILLER_TEXT = (
    "return value config session request handler async await cursor retry error index batch token commit row "
    "header stream parse buffer limit offset cache key lock release version schema field merge patch writer reader"
)
_FILLER = _FILLER_TEXT.split()
_TOOLS: list[dict[str, Any]] = [
    {
        "name": name,
        "description": text,
        "input_schema": {
            "type": "object",
            "properties": {key: {"type": kind, "description": f"The {key} to use."} for key, kind in fields.items()},
            "required": list(fields),
        },
    }
    for name, text, fields in (
        ("Read", "Reads a file from the project and returns its lines with numbers.", {"file_path": "string"}),
        ("Bash", "Runs a command in a shell and returns what it printed.", {"command": "string", "timeout": "number"}),
        ("Grep", "Searches the project's files for a pattern.", {"pattern": "string", "path": "string"}),
        ("TodoWrite", "Replaces the list of tasks for this session.", {"todos": "array"}),
    )
]
_SYSTEM = (
    "You are a coding agent working in a repository of a web shop. Read before you write, keep changes small, run the "
    "tests after each change, and keep the to-do list current. Answer in at most three sentences unless asked. "
)


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of reply."""

    name: str
    title: str
    stream: bool
    paced: bool = False


WORKLOADS = (
    Workload("json", "JSON replies", stream=False),
    Workload("stream", f"Streams of {canned.DELTAS + 6} events that arrive at once", stream=True),
    Workload("paced", f"Streams of {canned.DELTAS + 6} events at {canned.PACE * 1000:.0f} ms", stream=True, paced=True),
)


def dump(value: object) -> bytes:
    """Compact JSON, as the SDKs send it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Agent:
    """One worker's side of its conversation. Call :meth:`request`, then :meth:`take` or :meth:`restart`.

    ``first_length`` is how many steps the first session has, so that the workers of a run do not all begin new sessions
    at the same moment.
    """

    def __init__(self, name: str, workload: Workload, first_length: int = STEPS) -> None:
        self._name = name
        self._random = random.Random(name)
        self._cycle = 0
        self._length = first_length
        system = _SYSTEM + (canned.PACED.decode() if workload.paced else "[bench]")
        self._before = dump({"max_tokens": 1024})[:-1] + b',"messages":['
        stream = b',"stream":true' if workload.stream else b""
        tail = {"model": canned.MODEL, "system": [{"type": "text", "text": system}], "tools": _TOOLS}
        self._after = b"]," + dump(tail)[1:-1] + stream + b"}"
        self._begin()

    @property
    def session(self) -> str:
        """The session id that goes into the header; unique to agent and session."""
        return f"bench-{self._name}-{self._cycle}"

    @property
    def planning(self) -> bool:
        """Whether the reply to the current request must be the to-do list."""
        return self._step == 0

    def request(self) -> bytes:
        """The body of the next request."""
        return b"".join((self._before, b",".join(self._history), self._after))

    def take(self, content: list[dict[str, Any]]) -> None:
        """Append the assistant's reply and what the user says next; begin a new session after the last step."""
        self._step += 1
        if self._step >= self._length:
            self.restart()
            return
        self._history.append(dump({"role": "assistant", "content": content}))
        if content[0]["type"] == "tool_use":
            done = f"The to-do list has {len(canned.TODOS)} tasks. {canned.PLANNED.decode()}"
            block = {"type": "tool_result", "tool_use_id": content[0]["id"], "content": done}
            self._history.append(dump({"role": "user", "content": [block]}))
        else:
            self._history.append(dump({"role": "user", "content": self._question()}))

    def restart(self) -> None:
        """Begin a new session, as after the last step or an error."""
        self._cycle += 1
        self._length = STEPS
        self._begin()

    def _begin(self) -> None:
        self._step = 0
        self._history = [dump(message) for turn in range(4) for message in self._earlier_turn(turn)]
        plan = f"Plan the work for this week as a to-do list, then start with the first task. {canned.PLAN.decode()}"
        self._history.append(dump({"role": "user", "content": plan}))

    def _words(self, count: int) -> str:
        return " ".join(self._random.choices(_FILLER, k=count))

    def _question(self) -> str:
        area = self._random.choice(canned.AREAS)
        return f"Step {self._step}: how far is the {area}, and what is left to do there? Context: {self._words(30)}."

    def _earlier_turn(self, turn: int) -> list[dict[str, Any]]:
        tool = f"toolu_{self._name.replace('/', '_')}_{self._cycle}_{turn}"
        path = f"shop/{self._random.choice(canned.AREAS)}/{self._random.choice(_FILLER)}.py"
        lines = "\n".join(f"{n:5d}\t{self._words(8)}" for n in range(1, 31))
        call = {"type": "tool_use", "id": tool, "name": "Read", "input": {"file_path": path}}
        return [
            {"role": "user", "content": f"Look at {path} and tell me what it does. {self._words(20)}"},
            {"role": "assistant", "content": [{"type": "text", "text": f"I'll read {path} first."}, call]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": tool, "content": lines}]},
            {"role": "assistant", "content": [{"type": "text", "text": f"It handles {self._words(45)}."}]},
        ]
