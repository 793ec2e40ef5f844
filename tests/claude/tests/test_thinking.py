"""Signatures break when what stands before a block changes, and survive all that the API does not compare."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.claude import Options, Reply, StrictClaude
from tests.claude.tests.http import MODEL, Json, body, result, send, user

CONTROLS = "thinking-binding-controls-2026-08-01"
BOUND = (
    "Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the block, or set "
    '`thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
)
TOOLS = [
    {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {"at": {}}}},
    {"name": "leap", "input_schema": {"type": "object"}},
]


async def conversation(claude: StrictClaude) -> Json:
    """A request whose history holds three thinking blocks of the stand-in's own, the last with its tool answered."""
    params = body(
        user('Please look. [[think: one]] [[tool:look {"at":"x"}]] [[then]] [[think: two]] [[say: done]]'),
        system="You look at things.",
        tools=copy.deepcopy(TOOLS),
        thinking={"type": "adaptive"},
    )
    for following in (None, None, user("And leap? [[think: three]] [[tool:leap {}]]")):
        if following:
            params["messages"].append(following)
        status, answer = await send(claude.url, params)
        assert status == 200, answer
        params["messages"].append({"role": "assistant", "content": answer["content"]})
        calls = [block["id"] for block in answer["content"] if block["type"] == "tool_use"]
        if calls:
            params["messages"].append(user(*(result(one, "seen") for one in calls)))
    return params


def _rename(params: Json) -> None:
    params["tools"][0]["description"] = "Looks around."


def _system(params: Json) -> None:
    params["system"] = "You look at things. It is 12:01."


def _first(params: Json) -> None:
    params["messages"][0]["content"].append({"type": "text", "text": "<memory>a fact</memory>"})


def _result(params: Json) -> None:
    params["messages"][2]["content"][0]["content"] = "cleared"


def _input(params: Json) -> None:
    params["messages"][1]["content"][1]["input"]["at"] = "y"


def _answer(params: Json) -> None:
    params["messages"][3]["content"][-1]["text"] += " indeed"


def _inserted(params: Json) -> None:
    params["messages"].insert(0, user("Earlier."))
    params["messages"].insert(1, {"role": "assistant", "content": "Yes."})


def _removed(params: Json) -> None:
    del params["messages"][:4]


BREAKS: list[tuple[Callable[[Json], None], str, str]] = [
    (_rename, "messages.1.content.0", "tools was"),
    (_system, "messages.1.content.0", "system was"),
    (_first, "messages.1.content.0", "messages.0 was"),
    (_input, "messages.3.content.0", "messages.1 was"),
    (_result, "messages.3.content.0", "messages.2 was"),
    (_answer, "messages.5.content.0", "messages.3 was"),
    (_inserted, "messages.3.content.0", "messages.0 was"),
    (_removed, "messages.1.content.0", "messages.0 was"),
]


@pytest.mark.parametrize(("change", "where", "diagnosis"), BREAKS, ids=lambda v: getattr(v, "__name__", None))
async def test_changed_prefix_is_refused_at_the_first_block_behind_it(
    claude: StrictClaude, change: Callable[[Json], None], where: str, diagnosis: str
) -> None:
    params = await conversation(claude)
    change(params)
    status, answer = await send(claude.url, params)
    assert (status, answer["error"]["message"]) == (400, f"{where}: {BOUND}")
    assert claude.requests[-1].rule == "thinking_prefix"
    assert claude.requests[-1].diagnosis.startswith(diagnosis)
    assert claude.counters["thinking_mismatches"] == 1
    counting = {k: v for k, v in params.items() if k != "max_tokens"}
    status, again = await send(claude.url, counting, "/v1/messages/count_tokens")
    assert (status, again["error"]["message"]) == (400, f"{where}: {BOUND}")


def _markers(params: Json) -> None:
    params["tools"][1]["cache_control"] = {"type": "ephemeral"}
    params["system"] = [{"type": "text", "text": params["system"], "cache_control": {"type": "ephemeral"}}]
    params["messages"][2]["content"][0]["cache_control"] = {"type": "ephemeral"}


def _tool_order(params: Json) -> None:
    params["tools"].reverse()


def _key_order(params: Json) -> None:
    params["messages"] = [_reversed(message) for message in params["messages"]]
    params["tools"] = [_reversed(tool) for tool in params["tools"]]


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _reversed(v) for k, v in reversed(value.items())}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def _forms(params: Json) -> None:
    params["system"] = [{"type": "text", "text": params["system"]}]
    first = params["messages"][0]
    first["content"] = first["content"][0]["text"]
    params["messages"][2]["content"][0]["content"] = [{"type": "text", "text": "seen"}]


def _whitespace(params: Json) -> None:
    params["system"] = f"\n{params['system']}  "
    params["messages"][0]["content"][0]["text"] += "\n\n"
    params["messages"][0]["content"].append({"type": "text", "text": "  \n"})


def _parameters(params: Json) -> None:
    params |= {"model": "claude-sonnet-5-5", "max_tokens": 999, "metadata": {"user_id": "u"}, "stream": False}
    params["output_config"] = {"effort": "low"}
    params["thinking"] = {"type": "disabled"}


def _front_dropped(params: Json) -> None:
    del params["messages"][1]["content"][0]


def _back_dropped(params: Json) -> None:
    del params["messages"][5]["content"][0]


def _all_dropped(params: Json) -> None:
    for message in params["messages"][1::2]:
        message["content"] = [b for b in message["content"] if b["type"] != "thinking"]


@pytest.mark.parametrize(
    "change",
    [_markers, _tool_order, _key_order, _forms, _whitespace, _parameters, _front_dropped, _back_dropped, _all_dropped],
)
async def test_what_is_not_compared_may_change(claude: StrictClaude, change: Callable[[Json], None]) -> None:
    params = await conversation(claude)
    change(params)
    status, answer = await send(claude.url, params)
    assert status == 200, (answer, claude.requests[-1].diagnosis)
    assert claude.counters["thinking_mismatches"] == 0


async def test_no_block_may_be_dropped_from_the_middle(claude: StrictClaude) -> None:
    params = await conversation(claude)
    del params["messages"][3]["content"][0]
    status, answer = await send(claude.url, params)
    assert (status, answer["error"]["message"]) == (400, f"messages.5.content.0: {BOUND}")
    assert claude.requests[-1].rule == "thinking_window"


@pytest.mark.parametrize("field", ["thinking", "signature"])
async def test_block_must_come_back_byte_for_byte(claude: StrictClaude, field: str) -> None:
    params = await conversation(claude)
    block = params["messages"][3]["content"][0]
    block[field] = block[field].swapcase()
    status, answer = await send(claude.url, params)
    assert (status, answer["error"]["message"]) == (
        400,
        "messages.3.content.0: Invalid `signature` in `thinking` block",
    )


async def test_drop_block_takes_the_blocks_out_and_reports_them(claude: StrictClaude) -> None:
    params = await conversation(claude)
    _system(params)
    params["thinking"] = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    status, answer = await send(claude.url, params, anthropic_beta=CONTROLS)
    assert status == 200, answer
    assert answer["input_transformations"] == [
        {"type": "thinking_dropped", "path": f"messages.{n}.content.0", "reason": "prefix_binding_mismatch"}
        for n in (1, 3, 5)
    ]
    assert claude.counters["thinking_mismatches"] == 3
    held = [block["type"] for message in claude.requests[-1].prompt for block in message["content"]]
    assert "thinking" not in held


async def test_signatures_hold_across_a_restart_but_not_another_key() -> None:
    async with StrictClaude() as claude:
        params = await conversation(claude)
    async with StrictClaude() as claude:
        assert (await send(claude.url, params))[0] == 200
    async with StrictClaude(Options(signing_key=b"other")) as claude:
        status, answer = await send(claude.url, params)
        assert (status, claude.requests[-1].rule) == (400, "thinking_signature"), answer


async def test_omitted_and_redacted_thinking_is_bound_too(claude: StrictClaude) -> None:
    claude.script([Reply(blocks=[{"type": "thinking"}, {"type": "redacted_thinking"}, "done"])])
    params = body(user("go"), thinking={"type": "adaptive", "display": "omitted"})
    _, answer = await send(claude.url, params)
    assert answer["content"][0]["thinking"] == ""
    assert answer["content"][1]["data"]
    params["messages"] += [{"role": "assistant", "content": answer["content"]}, user("more")]
    assert (await send(claude.url, params))[0] == 200
    params["messages"][0] = user("gone")
    assert (await send(claude.url, params))[0] == 400


async def test_mismatch_can_be_counted_instead_of_enforced() -> None:
    async with StrictClaude(Options(enforce_thinking=False)) as claude:
        params = await conversation(claude)
        _system(params)
        status, answer = await send(claude.url, params | {"model": MODEL}, anthropic_beta=CONTROLS)
        assert status == 200
        assert {one["type"] for one in answer["input_transformations"]} == {"thinking_mismatch_allowed"}
        assert claude.counters["thinking_mismatches"] == 3
