from agentmemory_sidecar.memory.filter.facts import TEXT_LIMIT, facts_of, value_hash


def told(state, **more):
    return {fact.pointer: fact.text for fact in facts_of(state, **more)}


def test_leaves_list_elements_and_small_objects_are_facts():
    state = {
        "metadata": {"user_id": "secret"},
        "active_mission": {"goal": "ship", "sub_tasks": ["a", ""], "blocked_by": None},
        "extracted_context": {
            "user": {"name": "Ada", "likes": ["tea", "go"]},
            "facts": [{"text": "Ada moved", "time": "2024-05-01", "sure": 0.5}],
            "deep": {"er": {"list": [{"x": {"y": True}}]}},
            "count": 3,
        },
    }
    assert told(state) == {
        "/active_mission/goal": "ship",
        "/active_mission/sub_tasks/0": "a",
        "/extracted_context/user": "name: Ada; likes: tea, go",
        "/extracted_context/facts/0": "Ada moved; sure: 0.5 (2024-05-01)",
        "/extracted_context/deep/er/list/0/x": "y: true",
        "/extracted_context/count": "3",
    }
    assert [fact.time for fact in facts_of(state) if fact.time] == ["2024-05-01"]


def test_what_is_pinned_or_never_told_is_not_mixed_with_its_neighbours():
    state = {"x": {"user": {"name": "Ada", "pin": "1234", "town": "Rome"}}}
    assert told(state, never=["/x/user/pin"]) == {"/x/user/name": "Ada", "/x/user/town": "Rome"}
    assert "/x/user/name" in told(state, pinned=["/x/user/name"])
    assert told(state, never=["/x"]) == {}
    assert told(state, never=["/x/us"]) == {"/x/user": "name: Ada; pin: 1234; town: Rome"}


def test_a_long_value_is_shown_cut_and_searched_whole():
    (fact,) = facts_of({"a": "word " * 1000 + "needle"})
    assert len(fact.text) == TEXT_LIMIT
    assert fact.searched.endswith("needle")


def test_a_value_kept_elsewhere_is_told_by_its_summary():
    link = {"$blob": {"key": "k", "size": 70000, "type": "text/plain", "summary": "It begins"}}
    assert told({"a": link, "l": {"m": {"x": [link]}}}) == {
        "/a": "It begins… (70000 bytes in all)",
        "/l/m/x/0": "It begins… (70000 bytes in all)",
    }


def test_the_hash_is_of_the_value_not_of_its_form():
    assert value_hash({"a": 1, "b": 2}) == value_hash({"b": 2, "a": 1})
    assert value_hash(True) != value_hash(1)
