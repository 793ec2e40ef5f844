"""Each rule of conversations refuses a bad request and lets its good twin pass."""

import pytest

from tests.claude import StrictClaude
from tests.claude.tests.cases import ADDITION, HOUR, MARK, NEW, SYSTEM, TOOL, Case, refused_and_passed, text, turn
from tests.claude.tests.http import assistant, body, call, result, user

CLEAR_AT = "mid-conversation-system-clear-at-2026-08-21"

CASES = [
    Case("no_messages", "at least one message", body() | {"messages": []}, body()),
    Case("first_role", 'first message must use the "user" role', body(assistant("a"), user("b")), body(user("b"))),
    Case("empty_text", "must be non-empty", body(user("a", "")), body(user("a", " "))),
    Case("empty_text", "system.0: text", body(system=[text("")]), body(system=[text("x")])),
    Case(
        "empty_text",
        "must be non-empty",
        body(*turn(user(result(content=[text("")])))),
        body(*turn(user(result(content="")))),
    ),
    Case("blank_text", "non-whitespace", body(user(" ", "\n")), body(user(" ", "x"))),
    Case(
        "empty_content",
        "messages.1: all messages must have",
        body(user("a"), assistant(), user("b")),
        body(user("a"), assistant("c"), user("b")),
    ),
    Case(
        "empty_content",
        "messages.0: all messages must have",
        body({"role": "user", "content": ""}),
        body({"role": "user", "content": "x"}),
    ),
    Case(
        "tool_use_unanswered",
        "messages.1: `tool_use` ids were found without",
        body(*turn(user("no result"))),
        body(*turn(user(result()))),
    ),
    Case(
        "tool_use_unanswered",
        "toolu_2",
        body(*turn(user(result()), calls=("toolu_1", "toolu_2"))),
        body(*turn(user(result("toolu_2"), result()), calls=("toolu_1", "toolu_2"))),
    ),
    Case(
        "tool_result_first",
        "immediately after: toolu_1",
        body(*turn(user("text", result()))),
        body(*turn(user(result(), "text"))),
    ),
    Case(
        "tool_result_first",
        "immediately after: toolu_1",
        body(*turn(user("text"), user(result()))),
        body(*turn(user(result()), user("text"))),
    ),
    Case(
        "tool_result_orphan",
        "messages.0.content.0: unexpected `tool_use_id`",
        body(user(result(), "x")),
        body(user("x")),
    ),
    Case(
        "tool_result_orphan",
        "messages.4.content.0: unexpected",
        body(*turn(user(result()), assistant("ok"), user(result(), "x"))),
        body(*turn(user(result()), assistant("ok"), user("x"))),
    ),
    Case("tool_result_twice", "single result", body(*turn(user(result(), result()))), body(*turn(user(result())))),
    Case(
        "tool_use_unique",
        "must be unique",
        body(*turn(user(result()), assistant(call()), user(result()))),
        body(*turn(user(result()), assistant(call("toolu_2")), user(result("toolu_2")))),
    ),
    Case(
        "tool_use_id",
        "should match pattern",
        body(user("a"), assistant(call("a b")), user(result("a b"))),
        body(*turn(user(result()))),
    ),
    Case("block_role", "only be in `assistant`", body(user("a", call())), body(user("a"))),
    Case(
        "block_role",
        "only be in `user`",
        body(user("a"), assistant("b", result()), user("c")),
        body(user("a"), assistant("b"), user("c")),
    ),
    Case(
        "server_tool_pair",
        "`server_tool_use` block before",
        body(
            user("a"),
            assistant({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}, "b"),
            user("c"),
        ),
        body(
            user("a"),
            assistant(
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                "b",
            ),
            user("c"),
        ),
    ),
    Case(
        "system_model",
        "role 'system' is not supported on this model",
        body(user("a"), SYSTEM, model="claude-sonnet-5"),
        body(user("a"), SYSTEM, model="claude-sonnet-5-5"),
    ),
    Case("first_role", "first message", body(SYSTEM, user("a")), body(user("a"), SYSTEM)),
    Case(
        "system_placement",
        "messages.2: a `system` message must follow",
        body(user("a"), assistant("b"), SYSTEM, assistant("c"), user("d")),
        body(user("a"), SYSTEM, assistant("c"), user("d")),
    ),
    Case(
        "system_placement",
        "must be the last message",
        body(user("a"), SYSTEM, user("b")),
        body(user("a"), SYSTEM, assistant("c"), user("b")),
    ),
    Case("system_placement", "must be the last message", body(user("a"), SYSTEM, SYSTEM), body(user("a"), SYSTEM)),
    Case(
        "system_text_only",
        "only text",
        body(user("a"), {"role": "system", "content": [ADDITION]}, tools=[TOOL]),
        body(user("a"), {"role": "system", "content": [ADDITION]}, tools=[TOOL]),
        good_headers={"anthropic_beta": "mid-conversation-tool-changes-2026-07-01"},
    ),
    Case(
        "clear_at_marker",
        "together with `clear_at`",
        body(user("a"), {"role": "system", "clear_at": "next_user_message", "content": [text("x", **MARK)]}),
        body(user("a"), {"role": "system", "clear_at": "next_user_message", "content": [text("x")]}),
        {"anthropic_beta": CLEAR_AT},
    ),
    Case(
        "breakpoints",
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        body(user(*(text(str(n), **MARK) for n in range(5)))),
        body(user(*(text(str(n), **MARK) for n in range(4)))),
    ),
    Case(
        "breakpoints",
        "Found 5",
        body(user(*(text(str(n), **MARK) for n in range(4))), **MARK),
        body(user(*(text(str(n), **MARK) for n in range(3))), **MARK),
    ),
    Case(
        "breakpoints",
        "Found 5",
        body(
            user(text("u", **MARK)),
            system=[text("s", **MARK)],
            tools=[TOOL | {"name": f"t{n}"} | MARK for n in range(3)],
        ),
        body(
            user(text("u", **MARK)),
            system=[text("s", **MARK)],
            tools=[TOOL | {"name": f"t{n}"} | MARK for n in range(2)],
        ),
    ),
    Case(
        "ttl_order",
        "messages.0.content.1.cache_control.ttl: a ttl='1h'",
        body(user(text("a", **MARK), text("b", **HOUR))),
        body(user(text("a", **HOUR), text("b", **MARK))),
    ),
    Case(
        "ttl_order",
        "`tools`, `system`, `messages`",
        body(user(text("a", **HOUR)), system=[text("b", **MARK)]),
        body(user(text("a", **MARK)), system=[text("b", **HOUR)]),
    ),
    Case(
        "marker_empty_text", "empty text blocks", body(user("a", text(" ", **MARK))), body(user("a", text("b", **MARK)))
    ),
    Case(
        "prefill",
        "does not support assistant message prefill",
        body(user("a"), assistant("The")),
        body(user("a"), assistant("The"), model="claude-haiku-4-5"),
    ),
    Case(
        "prefill_whitespace",
        "trailing whitespace",
        body(user("a"), assistant("The "), model="claude-haiku-4-5"),
        body(user("a"), assistant("The"), model="claude-haiku-4-5"),
    ),
    Case(
        "assistant_document",
        "`document` blocks are not permitted",
        body(
            user("a"),
            assistant("b", {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}),
            user("c"),
        ),
        body(
            user("a"),
            assistant("b"),
            user("c", {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}),
        ),
        NEW,
    ),
    Case(
        "user_citations",
        "citations: not permitted",
        body(
            user(
                text(
                    "a",
                    citations=[
                        {
                            "type": "char_location",
                            "cited_text": "x",
                            "document_index": 0,
                            "document_title": None,
                            "start_char_index": 0,
                            "end_char_index": 1,
                        }
                    ],
                )
            )
        ),
        body(user(text("a", citations=[]))),
        NEW,
    ),
    Case(
        "thinking_kept",
        "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
        body(*turn(user(result())), thinking={"type": "enabled", "budget_tokens": 1024}),
        body(*turn(user(result())), thinking={"type": "adaptive"}),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_rule_of_conversations(claude: StrictClaude, case: Case) -> None:
    await refused_and_passed(claude, case)
