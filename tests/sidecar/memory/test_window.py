import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.memory.fence import fence
from agentmemory_sidecar.memory.tokens import estimate
from agentmemory_sidecar.memory.window import Line, Turn, add_step, as_history, called, shortened


def step(window, messages, reply, *, starts=True, ends=True, hint="t", keep=5, **more):
    return add_step(window, messages, reply, starts=starts, ends=ends, hint=hint, keep=keep, **more)


def user(*content):
    return {"role": "user", "content": list(content)}


def text(words):
    return {"type": "text", "text": words}


def test_a_turn_grows_by_its_steps_and_ends_once():
    use = {"type": "tool_use", "id": "u1", "name": "look", "input": {"at": "sky"}}
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    window = step([], [{"role": "user", "content": "What colour?"}], [thinking, text("I look."), use], ends=False)
    result = {
        "type": "tool_result",
        "tool_use_id": "u1",
        "content": [text("blue"), {"type": "image", "source": {"media_type": "image/png"}}],
    }
    window = step(window, [user(result)], [text("Blue.")], starts=False)
    assert window == [
        Turn("t", 1, (
            Line("user", "What colour?"), Line("assistant", "I look."), Line("tool_use", '{"at":"sky"}', "look", "u1"),
            Line("tool_result", "blue\n[image image/png]", "look", "u1"), Line("assistant", "Blue."),
        ), True),
    ]  # fmt: skip


def test_only_the_last_whole_turns_are_kept_and_numbers_go_on():
    window = []
    for number in range(7):
        window = step(window, [user(text(str(number)))], [text("ok")], hint=f"t{number}", keep=3)
    assert [(turn.id, turn.number) for turn in window] == [("t4", 5), ("t5", 6), ("t6", 7)]


def test_a_step_without_a_turn_opens_one():
    assert len(step([], [user(text("x"))], [text("y")], starts=False)) == 1
    closed = step([], [user(text("x"))], [text("y")])
    assert [turn.number for turn in step(closed, [], [text("z")], starts=False)] == [1, 2]


def test_unknown_blocks_are_one_short_line_and_injections_are_left_out():
    ours = fence("- known\n")
    content = [
        text("hi"),
        {"type": "document", "title": "Plan"},
        {"type": "novelty"},
        text(ours),
        text("exact"),
        "no block",
        {},
    ]
    window = step(
        [],
        [user(*content), {"role": "system", "content": "s"}, None],
        [{"type": "redacted_thinking"}],
        injected=["exact"],
    )
    assert [line.text for line in window[0].lines] == ["hi", "[document Plan]", "[novelty]", "[block]"]


def test_calls_are_found_again_by_their_ids():
    use = {"type": "server_tool_use", "id": "u1", "name": "web_search", "input": {"q": 1}}
    found = {
        "type": "web_search_tool_result",
        "tool_use_id": "u1",
        "content": [{"type": "web_search_result", "title": "T"}],
    }
    window = step([], [], [use, found])
    assert called(window) == {"u1": ("web_search", {"q": 1})}
    assert window[0].lines[1] == Line("tool_result", "[web_search_result T]", "web_search", "u1")


def test_a_result_is_cut_at_once_and_a_call_with_the_end_of_its_turn():
    use = {"type": "tool_use", "id": "u1", "name": "look", "input": {"at": "x" * 1000}}
    window = step([], [user(text("Look."))], [use], ends=False)
    assert called(window) == {"u1": ("look", {"at": "x" * 1000})}
    result = {"type": "tool_result", "tool_use_id": "u1", "content": "y" * 1000}
    window = step(window, [user(result)], [text("Done.")], starts=False)
    assert [len(line.text) for line in window[0].lines] == [5, 301, 301, 5]
    assert called(window) == {"u1": ("look", None)}


def test_a_long_text_keeps_its_beginning_and_says_where_the_whole_lies():
    turn = Turn("t", 1, (Line("user", "x" * 5000), Line("assistant", "short")), True)
    stored = []
    short = shortened(turn, 1000, lambda whole: stored.append(whole) or "key")
    assert stored == ["x" * 5000]
    assert short.lines[0].blob == "key"
    assert len(short.lines[0].text) <= 251
    assert short.lines[1] is turn.lines[1]
    assert shortened(short, 10, lambda _: "never").lines[0] is short.lines[0]
    assert shortened(turn, 5000, lambda _: "never") is turn


def test_a_history_is_plain_text_of_finished_turns():
    window = step(
        [],
        [user(text("one"))],
        [text("first"), {"type": "tool_use", "id": "u", "name": "t", "input": {"a": "b\n" * 400}}],
    )
    window = step(window, [user(text("two"), text("more"))], [text("second")])
    window = step(window, [user(text("three"))], [text("not ended")], ends=False)
    history = as_history(window, 1000)
    assert [message["role"] for message in history] == ["user", "assistant"] * 2
    assert history[1]["content"].startswith("first\n\n[called t: {")
    assert len(history[1]["content"]) < 340
    assert history[2]["content"] == "two\n\nmore"


def test_the_oldest_turns_go_first_when_tokens_are_few():
    window = []
    for number in range(5):
        window = step(window, [user(text("q" * 40))], [text(f"{number}" * 40)])
    history = as_history(window, 45)
    assert [message["content"][0] for message in history] == ["q", "3", "q", "4"]
    assert as_history(window, 5) == []
    assert as_history([], 100) == []


blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result", "image", "x", None, 3])},
    optional={
        "text": st.text(max_size=4) | st.none(),
        "id": st.text(max_size=2),
        "content": st.none() | st.text(max_size=3) | st.lists(st.none()),
        "input": st.none() | st.dictionaries(st.text(max_size=1), st.integers()),
        "tool_use_id": st.text(max_size=2),
        "source": st.none(),
    },
)
contents = st.text(max_size=5) | st.lists(blocks | st.none(), max_size=4) | st.none()


@given(
    st.lists(st.tuples(contents, st.lists(blocks, max_size=3), st.booleans(), st.booleans()), max_size=6),
    st.integers(0, 40),
)
def test_any_history_is_one_that_claude_takes(steps, budget):
    window: list[Turn] = []
    for content, reply, starts, ends in steps:
        window = step(window, [{"role": "user", "content": content}], reply, starts=starts, ends=ends, keep=3)
    assert len(window) <= 3
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(window), type=list[Turn]) == window
    history = as_history(window, budget)
    assert [message["role"] for message in history] == ["user", "assistant"] * (len(history) // 2)
    assert all(message["content"].strip() for message in history)
    assert sum(estimate(message["content"]) for message in history) <= budget
