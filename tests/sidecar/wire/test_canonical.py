import pytest

from agentmemory_sidecar.wire import canonical
from agentmemory_sidecar.wire.canonical import Chain, block_digests, digest

USER = {"role": "user", "content": "What is it?"}


def chain(messages: list[dict]) -> Chain:
    return canonical.chain(block_digests(message["role"], message["content"]) for message in messages)


def tool_result(content, **more):
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}]}


# What the API does not compare (facts on preserved thinking, and runs with LangChain and LiteLLM).
SAME = [
    (USER, {"role": "user", "content": [{"type": "text", "text": "What is it?"}]}),
    (
        USER,
        {
            "content": [{"text": "  What is it?\n", "type": "text", "cache_control": {"type": "ephemeral"}}],
            "role": "user",
        },
    ),
    (USER, {"role": "user", "content": [{"type": "text", "text": "What is it?", "citations": None}]}),
    (USER, {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "text", "text": "\n "}]}),
    (tool_result("42"), tool_result([{"type": "text", "text": "42", "cache_control": {"type": "ephemeral"}}])),
    (tool_result("42"), tool_result("42", is_error=False)),
    (tool_result("42"), tool_result("42", cache_control={"type": "ephemeral"})),
]
DIFFERENT = [
    (USER, {"role": "user", "content": "What is that?"}),
    (USER, {"role": "assistant", "content": "What is it?"}),
    (tool_result("42"), tool_result("42", is_error=True)),
    (tool_result("42"), tool_result("43")),
    (tool_result("true"), tool_result([{"type": "text", "text": "t"}, {"type": "text", "text": "rue"}])),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_the_api_takes_for_equal_has_one_mark(one, other):
    assert chain([one]).last == chain([other]).last


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_the_api_tells_apart_has_two_marks(one, other):
    assert chain([one]).last != chain([other]).last


def test_messages_of_one_role_may_be_merged():
    parts = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    whole = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert chain(parts).last == chain(whole).last
    assert chain(parts).end(0) == chain(whole).marks[0][0]


def test_a_mark_says_everything_before_it():
    first = chain([USER, {"role": "assistant", "content": "x"}, USER])
    second = chain([USER, {"role": "assistant", "content": "y"}, USER])
    assert first.end(0) == second.end(0)
    assert first.last != second.last


def test_a_blank_block_carries_the_mark_before_it():
    found = chain([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": " "}]}])
    assert found.marks[0][0] == found.marks[0][1]
    assert found.find(found.last) == (0, 1)


def test_an_empty_message_leaves_the_mark():
    assert chain([USER, {"role": "assistant", "content": []}]).last == chain([USER]).last


def test_system_prompts_compare_like_messages():
    assert digest("You help.") == digest(
        [{"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}]
    )
    assert digest("You help.") != digest("You do not help.")
