import copy

import pytest
from hypothesis import given

from agentmemory_sidecar.memory import state as module
from agentmemory_sidecar.memory.state import Operation, Patch, PatchError, StateError
from tests.sidecar.memory import strategies as own


def patch(*operations: Operation) -> Patch:
    return Patch("p", "test", operations)


def test_an_empty_state_has_the_documented_form():
    assert module.empty("usr_1") == {
        "metadata": {"v": "2.1", "user_id": "usr_1"},
        "active_mission": {"goal": None, "sub_tasks": [], "blocked_by": None},
        "extracted_context": {},
    }


def test_the_region_is_filled_in_on_read_and_never_stored():
    state = module.from_json(module.to_json(module.empty("u")), region="us-west-2")
    assert state["metadata"]["region"] == "us-west-2"
    assert module.from_json(module.to_json(state)) == module.empty("u")
    assert module.from_json(b"{}", region="r")["metadata"] == {"v": "2.1", "region": "r"}


def test_unknown_members_are_kept_in_their_place():
    data = b'{"future":{"z":1,"a":[1.5,true,null]},"metadata":{"v":"9.9","more":0}}'
    assert module.to_json(module.from_json(data)) == data


@pytest.mark.parametrize("data", [b"[]", b"null", b"{", b'"text"', b"[" * 5000])
def test_stored_bytes_that_are_no_state_are_refused(data):
    with pytest.raises(StateError):
        module.from_json(data)


def test_nothing_stored_is_a_state_that_was_never_written():
    assert module.from_json(b"", region="r") == {}


def test_apply_makes_missing_parents_and_leaves_the_old_state_alone():
    state = {"a": {"b": None}, "kept": [1]}
    before = copy.deepcopy(state)
    after = module.apply(state, patch(Operation("set", "/a/b/c", 1), Operation("append", "/new/list", [2])))
    assert after == {"a": {"b": {"c": 1}}, "kept": [1], "new": {"list": [2]}}
    assert state == before
    assert after["kept"] is state["kept"]


def test_each_operation_does_what_it_says():
    state = {"o": {"x": 1, "y": {"z": 2}}, "l": [1, 2]}
    assert module.apply(state, patch(Operation("set", "/l/1", 9)))["l"] == [1, 9]
    assert module.apply(state, patch(Operation("append", "/l", [3, 4])))["l"] == [1, 2, 3, 4]
    assert module.apply(state, patch(Operation("remove", "/o/x")))["o"] == {"y": {"z": 2}}
    assert module.apply(state, patch(Operation("remove", "/nothing/here"))) == state
    merged = module.apply(state, patch(Operation("merge", "/o", {"x": None, "y": {"w": 3}})))
    assert merged["o"] == {"y": {"z": 2, "w": 3}}
    assert module.apply({"a": None}, patch(Operation("remove", "/a/b"))) == {"a": None}


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        (Operation("set", "", {}), "whole state"),
        (Operation("set", "a", 1), "no JSON pointer"),
        (Operation("set", "/s/x", 1), "text where an object is needed"),
        (Operation("set", "/l/5", 1), "no element 5"),
        (Operation("set", "/l/-", 1), "no element -"),
        (Operation("remove", "/l/0"), "taken out of a list"),
        (Operation("append", "/s", [1]), "append to text"),
        (Operation("append", "/l", 1), "append of a number"),
        (Operation("set", "/" + "/".join("a" * 33), 1), "more than 32 tokens"),
        (Operation("set", "/x", float("inf")), "cannot hold"),
    ],
)
def test_what_cannot_be_applied_is_explained(operation, what):
    with pytest.raises(PatchError, match=what):
        module.apply({"s": "text", "l": [1]}, patch(operation))


def test_a_value_that_is_too_deep_is_refused():
    value: object = 1
    for _ in range(40):
        value = [value]
    with pytest.raises(PatchError, match="deeper than 32"):
        module.apply({}, patch(Operation("set", "/x", value)))


def test_touched_names_leaves_of_merges_and_ends_of_lists():
    operations = (
        Operation("merge", "/m", {"a": {"b": 1}, "c": None}),
        Operation("append", "/l", [1]),
        Operation("set", "/o/-", 1),
        Operation("remove", "/x"),
    )
    assert module.touched(patch(*operations)) == {"/m/a/b", "/m/c", "/l/-", "/o", "/x"}


def test_conflicts_are_ours_that_overlap_theirs():
    assert module.conflicts({"/a/b", "/c", "/l/-"}, {"/a", "/cc", "/l/-"}) == {"/a/b"}


@given(own.states, own.states)
def test_a_diff_leads_from_the_old_state_to_the_new(old, new):
    assert module.same(module.apply(old, patch(*module.diff(old, new))), new)


@given(own.states)
def test_the_diff_of_a_state_with_itself_is_nothing(state):
    assert module.diff(state, copy.deepcopy(state)) == []


def test_true_is_not_one():
    assert not module.same({"a": [True]}, {"a": [1]})
    assert module.diff({"a": True}, {"a": 1}) == [Operation("set", "/a", 1)]


def test_a_list_that_grew_is_appended_to():
    assert module.diff({"l": [1]}, {"l": [1, 2]}) == [Operation("append", "/l", [2])]


@given(own.patches)
def test_a_patch_survives_its_encoding(made):
    assert module.decode_patch(module.encode_patch(made)) == made


def test_waiting_patches_are_laid_over_as_far_as_they_fit():
    fits, clashes = Operation("set", "/a", 1), Operation("set", "/s/x", 1)
    data = [module.encode_patch(patch(clashes, fits)), module.encode_patch(Patch.none("q"))]
    assert module.lay_over({"s": "text"}, data) == {"s": "text", "a": 1}
