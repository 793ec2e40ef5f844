"""What a drill's writer says to Claude, and what it takes for an answer: pure.

Each turn asks Claude to call one tool, whose call the resource's rules bring into the state. The whole history travels with
each request, signed thinking included, so that it is the client's also in another region.
"""

from dataclasses import dataclass, field
from typing import Any

from agentmemory_operator.drill.ledger import Outcome
from agentmemory_sidecar.resource import AgentMemory

TOOL = "agentmemory_drill"
NOTES = ("extracted_context", "agentmemory_drill")
"""Where the list of notes is in the state."""
MARK = ("extracted_context", "agentmemory_drill_mark")
"""Where the mark is: one place, which two regions may set at once."""
RULES: list[dict[str, Any]] = [
    {"tools": [TOOL], "from": "/note", "to": "/" + "/".join(NOTES), "op": "Append"},
    {"tools": [TOOL], "from": "/mark", "to": "/" + "/".join(MARK)},
]
"""What ``spec.extraction.rules`` needs for a drill."""
_SAVED = ("committed", "repeated")


def prepared(resource: AgentMemory) -> bool:
    """Whether the resource's rules bring the notes into the state."""
    told = [rule.model_dump(mode="json", by_alias=True, exclude_unset=True) for rule in resource.spec.extraction.rules]
    return RULES[0] in told


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means."""

    outcome: Outcome
    said: str = ""
    replayed: bool = False
    called: bool = True
    """Claude did call the tool."""
    unheard: bool = False
    """Lost, and the agent knows that it had no answer."""


@dataclass(slots=True)
class Conversation:
    """One writer's messages so far."""

    model: str
    ask: str
    """What is said in each turn; ``{note}`` and ``{call}`` (the call's input as JSON) are put in."""
    thinking: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)

    def request(self, note: str, mark: str = "") -> dict[str, Any]:
        """The body of the next turn's request; the same arguments give the same body."""
        given = f'{{"note": "{note}"' + (f', "mark": "{mark}"' if mark else "") + "}"
        text = self.ask.replace("{note}", note).replace("{call}", given)
        body = self._body({"type": "text", "text": text})
        # The API takes no forced tool together with thinking.
        return body if self.thinking else body | {"tool_choice": {"type": "tool", "name": TOOL}}

    def closing(self) -> dict[str, Any] | None:
        """The body that tells Claude its tool's result, where it waits for one."""
        last = self.messages[-1]["content"] if self.messages else []
        calls = [block["id"] for block in last if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": name, "content": "noted"} for name in calls]
        return self._body(*results) if results else None

    def answered(self, body: dict[str, Any], answer: Answer) -> None:
        """Go on from an acknowledged turn."""
        self.messages = [*body["messages"], {"role": "assistant", "content": answer.body["content"]}]

    def _body(self, *content: dict[str, Any]) -> dict[str, Any]:
        body = {
            "model": self.model,
            "max_tokens": 2048,
            "tools": [_tool()],
            "messages": [*self.messages, {"role": "user", "content": list(content)}],
        }
        return body | {"thinking": {"type": "enabled", "budget_tokens": 1024}} if self.thinking else body


def judge(answer: Answer) -> Verdict:
    """Acknowledged is what the sidecar's receipt says is saved, and nothing else."""
    if answer.status != 200:
        error = answer.body.get("error", {}) if isinstance(answer.body, dict) else {}
        code = error.get("details", {}).get("error_code") or error.get("type") or ""
        return Verdict(Outcome.REFUSED, f"{answer.status} {code}".strip())
    commit = answer.headers.get("x-agentmemory-commit", "past the sidecar")
    if commit not in _SAVED:
        return Verdict(Outcome.REFUSED, commit)
    called = any(block["type"] == "tool_use" for block in answer.body["content"])
    return Verdict(Outcome.ACKNOWLEDGED, "" if called else "no tool call", commit == "repeated", called)


def _tool() -> dict[str, Any]:
    text = {"type": "string"}
    schema = {"type": "object", "properties": {"note": text, "mark": text}, "required": ["note"]}
    return {"name": TOOL, "description": "Write down a note, and a mark if one is given.", "input_schema": schema}
