import msgspec
import pytest

from agentmemory_sidecar.memory.admin_patch import TestFailed, from_json_patch, from_merge_patch
from agentmemory_sidecar.memory.state import Operation, PatchError, apply

STATE = {"metadata": {"v": "2.1", "user_id": "u"}, "a": {"b": 1}, "l": ["x", "y"]}


def json_patch(*operations: dict[str, object]) -> tuple[Operation, ...]:
    return from_json_patch(msgspec.json.encode(operations), "p", STATE).operations


def after(*operations: dict[str, object]) -> object:
    return apply(STATE, from_json_patch(msgspec.json.encode(operations), "p", STATE))


def test_a_merge_patch_is_one_merge():
    patch = from_merge_patch(b'{"a":{"b":null,"c":2}}', "p", STATE)
    assert (patch.id, patch.source) == ("p", "admin")
    assert apply(STATE, patch)["a"] == {"c": 2}


def test_metadata_may_be_sent_back_but_not_changed():
    assert from_merge_patch(b'{"metadata":{"v":"2.1"}}', "p", STATE).operations == ()
    for body in (b'{"metadata":{"v":"3"}}', b'{"metadata":{"v":null}}', b'{"metadata":null}', b'{"metadata":{"x":1}}'):
        with pytest.raises(PatchError, match="a change of the metadata"):
            from_merge_patch(body, "p", STATE)
    with pytest.raises(PatchError, match="a change of the metadata"):
        json_patch({"op": "replace", "path": "/metadata/v", "value": "3"})


def test_list_changes_become_changes_of_the_whole_list():
    assert json_patch({"op": "add", "path": "/l/0", "value": "w"}) == (Operation("set", "/l", ["w", "x", "y"]),)
    assert json_patch({"op": "add", "path": "/l/-", "value": "z"}) == (Operation("append", "/l", ["z"]),)
    assert json_patch({"op": "remove", "path": "/l/0"}) == (Operation("set", "/l", ["y"]),)
    assert json_patch({"op": "replace", "path": "/l/1", "value": 0}) == (Operation("set", "/l", ["x", 0]),)


def test_later_operations_see_earlier_ones():
    made = after(
        {"op": "test", "path": "/a/b", "value": 1},
        {"op": "add", "path": "/n", "value": {}},
        {"op": "move", "from": "/a/b", "path": "/n/b"},
        {"op": "copy", "from": "/l/0", "path": "/l/-"},
    )
    assert made == {**STATE, "a": {}, "n": {"b": 1}, "l": ["x", "y", "x"]}


def test_a_failed_test_says_so():
    with pytest.raises(TestFailed, match="test of /a/b failed"):
        json_patch({"op": "test", "path": "/a/b", "value": True})


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ({"op": "jump", "path": "/a"}, "unknown op 'jump', at operation 0"),
        ({"op": "add", "path": "/a"}, "add without a value"),
        ({"op": "add", "value": 1}, "no path"),
        ({"op": "add", "path": "a", "value": 1}, "no JSON pointer"),
        ({"op": "add", "path": "/no/where", "value": 1}, "nothing at /no"),
        ({"op": "add", "path": "/l/7", "value": 1}, "no element 7"),
        ({"op": "remove", "path": "/no"}, "nothing at /no"),
        ({"op": "replace", "path": "", "value": {}}, "whole state"),
        ({"op": "move", "from": "/a", "path": "/a/c"}, "into itself"),
    ],
)
def test_a_bad_operation_is_explained(operation, what):
    with pytest.raises(PatchError, match=what):
        json_patch(operation)


@pytest.mark.parametrize("body", [b"", b"[", b'"x"', b"\xff", b"[" * 5000])
def test_a_bad_body_is_explained(body):
    with pytest.raises(PatchError):
        from_merge_patch(body, "p", STATE)
    with pytest.raises(PatchError):
        from_json_patch(body, "p", STATE)


def test_a_body_over_the_limit_is_refused():
    with pytest.raises(PatchError, match="at most"):
        from_merge_patch(b'{"a":"' + b"x" * 1_000_000 + b'"}', "p", STATE)
