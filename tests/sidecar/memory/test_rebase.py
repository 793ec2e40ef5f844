from collections import Counter

import msgspec
from hypothesis import assume, given

from agentmemory_sidecar.memory.rebase import rebase, split
from agentmemory_sidecar.memory.state import Operation, Patch, PatchError, apply, conflicts, same, touched
from tests.sidecar.memory import strategies as own


def patch(*operations: Operation, source: str = "rules") -> Patch:
    return Patch("p", source, operations)


def applied(state: dict[str, object], made: Patch) -> dict[str, object]:
    try:
        return apply(state, made)
    except PatchError:
        assume(False)
        raise


@given(own.states, own.patches, own.patches)
def test_patches_that_touch_different_places_commute(base, ours, theirs):
    assume(not conflicts(touched(ours), touched(theirs)) and not any(op.op == "append" for op in ours.operations))
    newer, other = applied(base, theirs), applied(base, ours)
    left, right = rebase(base, newer, ours), rebase(base, other, theirs)
    assume(left.conflict is None and right.conflict is None)
    assert same(left.state, right.state)


@given(own.states, own.states, own.patches)
def test_each_operation_is_applied_or_in_the_conflict(base, newer, ours):
    result = rebase(base, newer, ours)
    kept = result.conflict.patch.operations if result.conflict else ()
    parts = [part for operation in ours.operations for part in split(operation)]
    encoded = Counter(map(msgspec.json.encode, (*result.applied.operations, *kept)))
    assert encoded == Counter(map(msgspec.json.encode, parts))
    assert same(apply(newer, result.applied), result.state)


@given(own.states, own.patches)
def test_on_an_unmoved_state_a_patch_that_fits_is_applied_whole(base, ours):
    expected = applied(base, ours)
    result = rebase(base, base, ours)
    assert result.conflict is None
    assert same(result.state, expected)


@given(own.states, own.patches)
def test_split_merges_do_what_the_merge_does(base, ours):
    parts = tuple(part for operation in ours.operations for part in split(operation))
    assert same(applied(base, ours), apply(base, patch(*parts)))


def test_a_clash_is_kept_with_all_three_values_and_the_rest_is_applied():
    base = {"goal": "a", "n": {"x": 1}}
    newer = {"goal": "theirs", "n": {"x": 1}}
    ours = patch(Operation("set", "/goal", "ours"), Operation("merge", "/n", {"x": 2}))
    result = rebase(base, newer, ours, theirs="admin")
    assert result.state == {"goal": "theirs", "n": {"x": 2}}
    told = msgspec.json.decode(result.conflict_json())
    assert told["theirs"] == "admin"
    assert told["patch"]["source"] == "rules"
    (clash,) = told["clashes"]
    assert clash == {
        "pointer": "/goal",
        "ours": {"op": "set", "pointer": "/goal", "value": "ours"},
        "base": "a",
        "theirs": "theirs",
    }


def test_the_same_change_twice_is_no_conflict():
    result = rebase({"a": 1}, {"a": 2}, patch(Operation("set", "/a", 2)))
    assert result.conflict is None
    assert result.state == {"a": 2}
    assert result.conflict_json() == b""


def test_two_additions_to_one_list_are_both_kept():
    result = rebase({"l": [1]}, {"l": [1, 2]}, patch(Operation("append", "/l", [2])))
    assert result.conflict is None
    assert result.state == {"l": [1, 2, 2]}


def test_what_builds_on_a_clash_goes_with_it():
    ours = patch(Operation("set", "/a", {}), Operation("set", "/a/y", 1))
    result = rebase({"a": {"x": 1}}, {"a": {"x": 2}}, ours)
    assert result.state == {"a": {"x": 2}}
    assert result.conflict is not None
    assert result.conflict.patch.operations == ours.operations
