"""Each rule of shapes, parameters and headers refuses a bad request and lets its good twin pass."""

import pytest

from tests.claude import StrictClaude
from tests.claude.tests.cases import MARK, NEW, SYSTEM, TOOL, Case, refused_and_passed, text, turn
from tests.claude.tests.http import assistant, body, call, result, user

CLEAR_AT = "mid-conversation-system-clear-at-2026-08-21"


def structured(**schema: object) -> dict[str, object]:
    return {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"} | schema}}}


CASES = [
    Case(
        "schema",
        "messages.1.content.0.image",
        body(
            user("a"),
            {"role": "system", "content": [{"type": "image", "source": {"type": "url", "url": "http://x/y"}}]},
        ),
        body(user("a", {"type": "image", "source": {"type": "url", "url": "http://x/y"}})),
    ),
    Case(
        "beta_field",
        "messages.1.clear_at: Extra",
        body(user("a"), SYSTEM | {"clear_at": "never"}),
        body(user("a"), SYSTEM | {"clear_at": "never"}),
        good_headers={"anthropic_beta": CLEAR_AT},
    ),
    Case(
        "output_format",
        "'additionalProperties' must be explicitly set to false",
        body(**structured()),
        body(**structured(additionalProperties=False)),
    ),
    Case(
        "output_format",
        "property 'maxLength' is not supported",
        body(**structured(properties={"a": {"type": "string", "maxLength": 3}}, additionalProperties=False)),
        body(**structured(properties={"a": {"type": "string"}}, additionalProperties=False)),
    ),
    Case("sampling_parameter", "temperature: Extra inputs", body(temperature=0.5), body(temperature=0.5), NEW, {}),
    Case("sampling_parameter", "top_k: Extra inputs", body(top_k=5), body(top_k=5), NEW, {}),
    Case("sampling_parameter", "top_p: Extra inputs", body(top_p=0.5), body(top_p=0.5), NEW, {}),
    Case("schema", "temperature: range", body(temperature=1.5), body(temperature=1)),
    Case("max_tokens", "greater than or equal to 0", body(max_tokens=-1), body(max_tokens=0)),
    Case(
        "max_tokens", "not supported with `stream`", body(max_tokens=0, stream=True), body(max_tokens=0, stream=False)
    ),
    Case("max_tokens", "maximum allowed number", body(max_tokens=10**6), body(max_tokens=10**5)),
    Case("stop_sequences", "non-whitespace", body(stop_sequences=[" "]), body(stop_sequences=["x"])),
    Case(
        "thinking_budget",
        "greater than or equal to 1024",
        body(thinking={"type": "enabled", "budget_tokens": 1}),
        body(thinking={"type": "enabled", "budget_tokens": 1024}),
    ),
    Case(
        "thinking_budget",
        "`max_tokens` must be greater",
        body(thinking={"type": "enabled", "budget_tokens": 2000}),
        body(thinking={"type": "enabled", "budget_tokens": 1999}),
    ),
    Case(
        "thinking_tool_choice",
        "forces tool use",
        body(thinking={"type": "enabled", "budget_tokens": 1024}, tools=[TOOL], tool_choice={"type": "any"}),
        body(thinking={"type": "enabled", "budget_tokens": 1024}, tools=[TOOL], tool_choice={"type": "auto"}),
    ),
    Case("tool_names", "must be unique", body(tools=[TOOL, TOOL]), body(tools=[TOOL, TOOL | {"name": "other"}])),
    Case(
        "tool_choice",
        "not found",
        body(tools=[TOOL], tool_choice={"type": "tool", "name": "no"}),
        body(tools=[TOOL], tool_choice={"type": "tool", "name": "look"}),
    ),
    Case("unknown_field", "memory: Extra inputs are not permitted", body(memory={}), body(metadata={"user_id": "u"})),
    Case("unknown_field", "messages.0.id: Extra inputs", body(user("a") | {"id": "x"}), body(user("a"))),
    Case(
        "unknown_field",
        "messages.0.content.0.text.source: Extra inputs",
        body(user(text("a", source="x"))),
        body(user(text("a", citations=None))),
    ),
    Case(
        "unknown_field",
        "system.0.name: Extra inputs",
        body(system=[text("a", name="x")]),
        body(system=[text("a", **MARK)]),
    ),
    Case(
        "unknown_field",
        "tools.0.custom.schema: Extra inputs",
        body(tools=[TOOL | {"schema": {}}]),
        body(tools=[TOOL | {"strict": True, "eager_input_streaming": True}]),
    ),
    Case(
        "schema", "messages.0.content.0.text.text: Field required", body(user({"type": "text"})), body(user(text("x")))
    ),
    Case(
        "schema",
        "messages.1.content.0.tool_use.input: Input should be a valid dictionary",
        body(user("a"), assistant(call() | {"input": "x"}), user(result())),
        body(*turn(user(result()))),
    ),
    Case(
        "schema",
        "messages.0.content.0: Input tag 'memo' found using 'type'",
        body(user({"type": "memo"})),
        body(user("x")),
    ),
    Case("schema", "messages.0.role", body({"role": "tool", "content": "x"}), body(user("x"))),
    Case("schema", "messages: Field required", {"model": "claude-opus-5-5", "max_tokens": 1}, body()),
    Case("schema", "max_tokens: Field required", {"model": "claude-opus-5-5", "messages": [user("x")]}, body()),
    Case("schema", "max_tokens: Input should be a valid integer", body(max_tokens="many"), body(max_tokens=1)),
    Case("schema", "name: String should match", body(tools=[TOOL | {"name": "a b"}]), body(tools=[TOOL])),
    Case(
        "beta_field",
        "context_management: Extra inputs",
        body(context_management={"edits": []}),
        body(context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}),
        good_headers={"anthropic_beta": "context-management-2025-06-27"},
    ),
    Case(
        "beta_field",
        "thinking.adaptive.block_binding: Extra",
        body(thinking={"type": "adaptive", "block_binding": {}}),
        body(thinking={"type": "adaptive", "block_binding": {}}),
        good_headers={"anthropic_beta": "thinking-binding-controls-2026-08-01"},
    ),
    Case(
        "beta_field",
        "thread: Extra inputs",
        body(thread={"type": "create"}),
        body(thread={"type": "create"}),
        good_headers={"anthropic_beta": "message-threads-2026-08-12"},
    ),
    Case(
        "beta_field",
        "messages.1.output_config: Extra",
        body(user("a"), SYSTEM | {"output_config": {"effort": "low"}}),
        body(user("a"), SYSTEM | {"output_config": {"effort": "low"}}),
        {"user_agent": "claude-cli/2.1.330 (external, cli)"},
        {"user_agent": "claude-cli/2.1.330 (external, cli)", "anthropic_beta": "per-turn-control-2026-07-01"},
    ),
    Case("schema", "max_tokens: Input should be a valid integer", body(max_tokens="5"), body(max_tokens=5)),
    Case("schema", "stream: Input should be", body(stream="yes"), body(stream=True) | {"stream": False}),
    Case(
        "unknown_beta",
        "Unexpected value(s) `agent-minds-2026-01-01` for the `anthropic-beta` header.",
        body(),
        body(),
        {"anthropic_beta": "agent-minds-2026-01-01"},
        {"anthropic_beta": "context-1m-2025-08-07, extended-cache-ttl-2025-04-11"},
    ),
    Case("version_missing", "anthropic-version: header is required", body(), body(), {"anthropic_version": ""}, {}),
    Case("version_unknown", "not a valid version", body(), body(), {"anthropic_version": "2026-01-01"}, {}),
    Case(
        "content_type",
        "application/json",
        body(),
        body(),
        {"content_type": "text/plain"},
        {"content_type": "application/json; charset=utf-8"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_rule_of_shapes(claude: StrictClaude, case: Case) -> None:
    await refused_and_passed(claude, case)
