"""A bad request beside its good twin: the table tests' one row, and what is expected of it."""

from dataclasses import dataclass, field
from typing import Any

from tests.claude import StrictClaude
from tests.claude.tests.http import assistant, call, send, user

SYSTEM = {"role": "system", "content": "Be brief."}
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
ADDITION = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "look"}}
NEW = {"anthropic_version": "2026-10-21"}


@dataclass
class Case:
    """A bad request, the rule it breaks, what the error says, and its good twin."""

    rule: str
    says: str
    bad: dict[str, Any]
    good: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    good_headers: dict[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.rule}-{self.says[:30]}"


def text(value: str, **rest: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **rest}


def turn(*more: dict[str, Any], calls: tuple[str, ...] = ("toolu_1",)) -> list[dict[str, Any]]:
    """A question, an answer of tool calls, and what follows."""
    return [user("go"), assistant(*(call(one) for one in calls)), *more]


async def refused_and_passed(claude: StrictClaude, case: Case) -> None:
    """The bad request is a 400 for its rule, the good one is served."""
    status, answer = await send(claude.url, case.bad, **case.headers)
    assert (status, claude.requests[-1].rule) == (400, case.rule), answer
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "invalid_request_error"
    assert case.says in answer["error"]["message"]
    assert answer["request_id"] == claude.requests[-1].request_id

    headers = case.headers if case.good_headers is None else case.good_headers
    status, answer = await send(claude.url, case.good, **headers)
    assert status == 200, answer
    assert claude.requests[-1].verdict == "ok"
    assert claude.counters["refused"] == 1
