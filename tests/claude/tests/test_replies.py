"""What is answered: by script, by directive, from the prompt."""

from typing import Any

import pytest

from tests.claude import Match, Reply, StrictClaude
from tests.claude.answer import NOTED, TOLD, UNKNOWN
from tests.claude.tests.http import Json, assistant, body, call, result, send, user


async def said(claude: StrictClaude, params: Json, **headers: str) -> str:
    """All text of the reply."""
    status, answer = await send(claude.url, params, **headers)
    assert status == 200, answer
    return "|".join(block["text"] for block in answer["content"] if block["type"] == "text")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            body(user("What is the code name?"), system="Be kind. The code name is Bluebird."),
            "The code name is Bluebird.",
        ),
        (
            body(user("My code name is Bluebird."), assistant("Ok."), user("What is my code name?")),
            "My code name is Bluebird.",
        ),
        (
            body(user("Which database do we use?", "<memory>\n/context/database: we use Postgres 17\n</memory>")),
            "/context/database: we use Postgres 17",
        ),
        (
            body(
                user("<system-reminder>A question?</system-reminder>", "What database is used?", "database used: Redis")
            ),
            "database used: Redis",
        ),
        (
            body(
                user("look"),
                assistant(call()),
                user(result(content="The database is Redis.")),
                assistant("x"),
                user("Which database is it?"),
            ),
            "The database is Redis.",
        ),
    ],
    ids=["system", "history", "injected", "reminder", "tool result"],
)
async def test_default_answer_quotes_what_bears_on_the_question(
    claude: StrictClaude, params: Json, expected: str
) -> None:
    assert await said(claude, params) == TOLD + expected


@pytest.mark.parametrize("question", ["What is the code name?", "What is the code name of the project?"])
async def test_default_answer_admits_what_it_was_not_told(claude: StrictClaude, question: str) -> None:
    prompt = body(user("Nothing of it. A project exists."), assistant(UNKNOWN), user(question), system="Be kind.")
    assert await said(claude, prompt) == UNKNOWN


async def test_statement_is_noted(claude: StrictClaude) -> None:
    assert await said(claude, body(user("My code name is Bluebird."))) == NOTED


async def test_directives_become_blocks_in_order(claude: StrictClaude) -> None:
    text = 'x [[say: one]] y [[think: hm]] [[tool:look {"a": [[1, "]]"]], "b": "\\"}"}]] [[tool:leap]] [[stop: max_tokens]]'
    _, answer = await send(claude.url, body(user(text)))
    assert answer["stop_reason"] == "max_tokens"
    kinds = [block["type"] for block in answer["content"]]
    assert kinds == ["text", "thinking", "tool_use", "tool_use"]
    assert answer["content"][2]["input"] == {"a": [[1, "]]"]], "b": '"}'}
    assert answer["content"][2]["id"].startswith("toolu_")
    assert answer["content"][3]["input"] == {}
    assert answer["id"].startswith("msg_")


async def test_then_parts_the_steps_of_a_turn(claude: StrictClaude) -> None:
    messages = [user("[[tool:look {}]] [[then]] [[say: a]] [[tool:look {}]] [[then]] [[say: end]]")]
    texts = []
    for _ in range(3):
        _, answer = await send(claude.url, body(*messages))
        messages.append({"role": "assistant", "content": answer["content"]})
        texts.append([block.get("text", "-") for block in answer["content"]])
        calls = [block["id"] for block in answer["content"] if block["type"] == "tool_use"]
        messages.append(user(*(result(one) for one in calls)) if calls else user("And now?"))
    assert texts == [["-"], ["a", "-"], ["end"]]


async def test_directives_that_a_proxy_put_behind_do_not_count(claude: StrictClaude) -> None:
    assert await said(claude, body(user("[[say: mine]]", "earlier: [[say: old]]"))) == "mine"


@pytest.mark.parametrize("text", ["[[tool:look {bad}]]", "[[say: open", "[[fault: nonsense]]"])
async def test_directive_that_cannot_be_read_is_named(claude: StrictClaude, text: str) -> None:
    status, _ = await send(claude.url, body(user(text)))
    assert (status, claude.requests[0].rule) == (400, "directive")


async def test_script_comes_first_and_in_order(claude: StrictClaude) -> None:
    claude.script("one", [Reply(blocks=["two", "more"]), {"blocks": [{"type": "tool_use", "name": "look"}]}])
    assert await said(claude, body(user("[[say: directive]]"))) == "one"
    assert await said(claude, body(user("x"))) == "two|more"
    _, answer = await send(claude.url, body(user("x")))
    assert (answer["stop_reason"], answer["content"][0]["input"]) == ("tool_use", {})
    assert await said(claude, body(user("[[say: directive]]"))) == "directive"
    assert claude.unused == []


async def test_script_by_session_agent_and_text(claude: StrictClaude) -> None:
    claude.script(
        Reply(blocks="for s1", match=Match(session="s1"), times=2),
        Reply(blocks="for a7", match=Match(agent="a7")),
        {"blocks": "for weather", "match": {"text": "weather"}, "times": 0},
        Reply(blocks="for team", match=Match(headers={"x-team": "red"})),
    )
    assert await said(claude, body(), x_agent_session="s2") == NOTED
    assert await said(claude, body(), x_agent_session="s1") == "for s1"
    assert await said(claude, body(), x_claude_code_session_id="s1") == "for s1"
    assert await said(claude, body(), x_agent_session="s1") == NOTED
    assert await said(claude, body(), x_claude_code_agent_id="a7") == "for a7"
    assert await said(claude, body(), x_team="red") == "for team"
    for _ in range(2):
        assert await said(claude, body(user("the weather"))) == "for weather"
    assert len(claude.unused) == 1
    assert claude.requests[1].session == "s1"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, ("end_turn", None, "alpha beta gamma")),
        ({"max_tokens": 2}, ("max_tokens", None, "alpha be")),
        ({"stop_sequences": ["gamma", "beta"]}, ("stop_sequence", "beta", "alpha ")),
    ],
)
async def test_limits_of_the_request_hold(claude: StrictClaude, extra: Json, expected: Any) -> None:
    _, answer = await send(claude.url, body(user("[[say: alpha beta gamma]]"), **extra))
    assert (answer["stop_reason"], answer["stop_sequence"], answer["content"][0]["text"]) == expected


async def test_zero_tokens_only_warm_the_cache(claude: StrictClaude) -> None:
    _, answer = await send(claude.url, body(user("x"), max_tokens=0))
    assert (answer["content"], answer["stop_reason"], answer["usage"]["output_tokens"]) == ([], "max_tokens", 0)


async def test_thinking_follows_the_request_unless_scripted(claude: StrictClaude) -> None:
    claude.script(Reply(blocks="a"), Reply(blocks="b", think=False), Reply(blocks="c", think="mine"))
    seen = []
    for thinking in ({"type": "adaptive"}, {"type": "adaptive"}, {"type": "disabled"}):
        _, answer = await send(claude.url, body(user("x"), thinking=thinking))
        seen.append([block.get("thinking", block["type"]) for block in answer["content"]])
    assert seen == [[claude.options.thinking_text, "text"], ["text"], ["mine", "text"]]
