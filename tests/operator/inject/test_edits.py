from typing import Any

import jsonpatch
import pytest

from agentmemory_operator.inject.edits import Edits, pointer


def test_a_pointer_escapes_what_is_special_in_it() -> None:
    assert pointer(("metadata", "annotations", "a~b/c", 0)) == "/metadata/annotations/a~0b~1c/0"


@pytest.mark.parametrize("there", [{}, {"list": None}, {"list": []}, {"list": [1]}, {"list": [1, 2]}])
@pytest.mark.parametrize("front", [True, False])
def test_the_patch_does_what_the_edits_did(there: dict[str, Any], front: bool) -> None:
    pod = {"spec": there}
    edits = Edits(pod)
    edits.extend(("spec", "list"), [8, 9], front=front)
    edits.add(("spec", "new"), {"x": 1})
    edits.replace(("spec", "new", "x"), 2)
    assert jsonpatch.apply_patch(pod, edits.operations) == edits.pod
    before = there.get("list") or []
    assert edits.pod["spec"]["list"] == ([8, 9, *before] if front else [*before, 8, 9])


def test_nothing_to_add_is_no_operation() -> None:
    edits = Edits({"spec": {}})
    edits.extend(("spec", "list"), [])
    assert edits.operations == []
    assert edits.pod == {"spec": {}}


def test_an_operation_keeps_the_value_it_was_made_with() -> None:
    edits = Edits({"spec": {}})
    value: list[dict[str, list[int]]] = [{"env": []}]
    edits.add(("spec", "containers"), value)
    edits.extend(("spec", "containers", 0, "env"), [1])
    assert edits.operations[0]["value"] == [{"env": []}]
    assert value == [{"env": []}]
