import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.memory.fence import fence
from agentmemory_sidecar.memory.rules import Rule, Rules, ToolResult, derive, patch_from, results_of
from agentmemory_sidecar.memory.state import Operation, apply, empty
from agentmemory_sidecar.resource.config import RuleConfig
from agentmemory_sidecar.resource.prompt import Op, When
from tests.sidecar.memory import strategies as own


def call(name, given):
    return {"type": "tool_use", "id": "t1", "name": name, "input": given}


def operations(rule, *, given=None, text=None, state=None):
    calls = [] if given is None else [call("tool", given)]
    results = [] if text is None else [ToolResult("t1", "tool", {}, text)]
    return patch_from("s", calls, results, Rules((rule,), builtin=False), state or {}).operations


def test_a_calls_value_goes_where_the_rule_says():
    rule = Rule(("tool",), "/extracted_context/city", source="/where/city")
    assert operations(rule, given={"where": {"city": "Rome"}}) == (Operation("set", "/extracted_context/city", "Rome"),)
    assert operations(rule, given={"where": {}}) == ()


def test_a_result_is_parsed_where_it_is_json():
    rule = Rule(("tool",), "/x", when="Result")
    assert operations(rule, text='{"a":[1]}') == (Operation("set", "/x", {"a": [1]}),)
    assert operations(rule, text="plain {") == (Operation("set", "/x", "plain {"),)


def test_each_op():
    assert operations(Rule(("tool",), "/l", op="Append", source="/v"), given={"v": 1}) == (
        Operation("append", "/l", [1]),
    )
    assert operations(Rule(("tool",), "/l", op="Append", source="/v"), given={"v": [1, 2]}) == (
        Operation("append", "/l", [1, 2]),
    )
    assert operations(Rule(("tool",), "/m", op="Merge"), given={"v": None}) == (Operation("merge", "/m", {"v": None}),)
    assert operations(Rule(("tool",), "/m", op="Remove"), given={}) == (Operation("remove", "/m"),)


def test_a_template_writes_each_element():
    rule = Rule(("tool",), "/l", source="/v", template="{{{/s}}} {/n/0}{/none}")
    assert operations(rule, given={"v": [{"s": "a", "n": [1]}, "x"]}) == (Operation("set", "/l", ["{a} 1", "{} "]),)
    assert operations(rule, given={"v": {"s": True}}) == (Operation("set", "/l", "{true} "),)


def test_the_resources_own_rules_are_taken_as_they_are():
    rule = RuleConfig(tools=("tool",), when=When.RESULT, source="", target="/x", op=Op.APPEND)
    assert operations(rule, text="1") == (Operation("append", "/x", [1]),)
    assert operations(rule, given={}) == ()


def test_what_does_not_fit_gives_a_reason_and_all_else_is_done():
    rules = Rules(
        (Rule(("tool",), "/s/x"), Rule(("tool",), "/m", op="Merge", source="/v"), Rule(("tool",), "/ok", source="/v"))
    )
    derived = derive("s", [call("tool", {"v": 1}), call("other", {})], [], rules, {"s": "text"})
    assert derived.patch.operations == (Operation("set", "/ok", 1),)
    assert [reason.split(",")[0] for _, reason in derived.skipped] == [
        "text where an object is needed for 'x'",
        "no object to merge",
    ]


def test_later_operations_see_earlier_ones_and_results_go_first():
    rules = Rules((Rule(("a",), "/v/x", source="/x"), Rule(("b",), "/v", when="Result", op="Merge")))
    derived = derive("s", [call("a", {"x": 1})], [ToolResult("t", "b", {}, '{"y":2}')], rules, {})
    assert apply({}, derived.patch) == {"v": {"y": 2, "x": 1}}


def test_a_patch_for_a_new_session_applies_to_an_empty_state():
    derived = derive("s", [call("tool", {"v": 1})], [], Rules((Rule(("tool",), "/active_mission/sub_tasks/x"),)), {})
    assert derived.patch.operations == ()
    assert apply(empty(), derived.patch) == empty()


def test_errors_and_what_we_injected_ourselves_are_not_extracted():
    rules = Rules((Rule(("tool",), "/x", when="Result"),))
    quoted = "log: " + fence("- secret\n")
    for result in (ToolResult("t", "tool", {}, "boom", is_error=True), ToolResult("t", "tool", {}, quoted)):
        assert patch_from("s", [], [result], rules, {}).operations == ()


def test_results_get_the_names_of_their_calls():
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [call("tool", {"q": 1})]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
            {"type": "tool_result", "tool_use_id": "t0", "content": "old", "is_error": True},
            {"type": "tool_result", "tool_use_id": "unknown"},
        ]},
    ]  # fmt: skip
    found = results_of(messages[2:], messages, {"t0": ("before", None)})
    assert [(result.name, result.given, result.text, result.is_error) for result in found] == [
        ("tool", {"q": 1}, "a", False),
        ("before", None, "old", True),
    ]


anything = own.values | st.binary(max_size=3)


@given(st.lists(anything, max_size=3), st.lists(anything, max_size=3), own.states)
@pytest.mark.parametrize("name", ["TodoWrite", "TaskCreate", "TaskUpdate", "TaskList", "TaskGet", "tool"])
def test_nothing_that_a_tool_says_raises_and_every_patch_applies(name, inputs, contents, state):
    rules = Rules((Rule(("tool",), "/a/b"), Rule(("tool",), "/a", when="Result", op="Append", template="{/x}")))
    texts = [
        "Task #1 created successfully: x",
        "Updated task #1 status",
        "#1 [pending] x",
        "Task #1: x\nStatus: pending",
    ]
    results = [ToolResult("t", name, given, content) for given in inputs for content in [*contents, *texts]]
    calls = [call(name, given) for given in inputs] + list(contents)
    derived = derive("s", calls, results, rules, state)
    apply(state or empty(), derived.patch)
    results_of(contents, contents)
