"""A declared form at work: what it refuses, shows, and makes of patches of older forms."""

import json
from typing import Any

import msgspec

from agentmemory_sidecar.memory.form import MASK, Form, declared, version_of
from agentmemory_sidecar.memory.outgoing import land, prepare
from agentmemory_sidecar.memory.state import Operation, Patch, decode_patch
from agentmemory_sidecar.memory.tool import MEMBER
from agentmemory_sidecar.resource.config import FormConfig, MigrationConfig
from agentmemory_sidecar.resource.state_schema import OWN

Json = dict[str, Any]
TEXT: Json = {"type": "string", "maxLength": 3}
DEFINITION: Json = {"properties": {"name": TEXT, "mail": TEXT}, "additionalProperties": {"type": ["object", "array"]}}
MOVES = ([{"op": "move", "from": "/a", "path": "/b"}], [{"op": "move", "from": "/b/c", "path": "/d"}])


def form(definition: Json | None = None, pii: tuple[str, ...] = ()) -> Form:
    steps = tuple(
        MigrationConfig(from_version=start, to_version=end, patch=json.dumps(patch))
        for start, end, patch in zip(("2.1", "3"), ("3", "3.1"), MOVES, strict=True)
    )
    text = json.dumps(definition) if definition is not None else ""
    return declared("3.1", FormConfig(definition=text, migrations=steps, pii=pii))


def test_a_form_is_compiled_once_and_none_is_nothing() -> None:
    assert form(DEFINITION) is form(DEFINITION)
    plain = declared("2.1", None)
    assert plain.refusal({}, {"name": 7}) == ()
    assert plain.read(state := {"metadata": {"v": "1"}}) is state
    assert plain.knows({})
    assert not plain.knows({"metadata": {"v": "2.2"}})


def test_only_what_a_change_makes_worse_is_refused() -> None:
    fits = form(DEFINITION)
    (told,) = fits.refusal({}, {"name": "long name"})
    assert told["pointer"] == "/name"
    assert "long name" not in told["problem"]
    assert fits.refusal({"name": "long name"}, {"name": "another long one"}) == ()
    assert [each["pointer"] for each in fits.refusal({"name": "long name"}, {"name": "long name", "mail": "long"})] == [
        "/mail"
    ]


def test_the_files_of_claude_s_memory_tool_are_nobody_s_to_declare() -> None:
    assert MEMBER in OWN
    assert form(DEFINITION).refusal({}, {MEMBER: 7, "metadata": 7}) == ()


def test_what_tells_of_a_person_is_masked_where_it_is() -> None:
    shown = form(pii=("/mail", "/none/at/all", "/nothing")).masked({"mail": "a@b", "name": "n", "nothing": None})
    assert shown == {"mail": MASK, "name": "n", "nothing": None}


def test_a_patch_of_an_older_form_goes_where_its_fields_went() -> None:
    patch = Patch(
        "p", operations=(Operation("set", "/a/c/x", 1), Operation("append", "/a/l", [2]), Operation("set", "/e", 3))
    )
    outgoing = prepare(1, "", "root", patch, {"a": {"c": {}}}, {}, version="2.1")
    carried = form().carried(outgoing)
    assert [each.pointer for each in decode_patch(carried.patch).operations] == ["/d/x", "/b/l", "/e"]
    landed = land({"b": {"l": [1]}, "d": {}, "metadata": {"v": "3.1"}}, carried)
    assert landed.conflict is None
    assert landed.state == {"b": {"l": [1, 2]}, "d": {"x": 1}, "e": 3, "metadata": {"v": "3.1"}}

    newer = msgspec.structs.replace(outgoing, version="3")
    assert [each.pointer for each in decode_patch(form().carried(newer).patch).operations] == ["/a/c/x", "/a/l", "/e"]
    assert form().carried(msgspec.structs.replace(outgoing, version="3.1")).patch == outgoing.patch


def test_a_state_is_read_in_the_form_and_tells_its_version() -> None:
    read = form().read({"metadata": {"v": "2.1"}, "a": {"c": [1], "kept": 2}})
    assert read == {"metadata": {"v": "3.1"}, "b": {"kept": 2}, "d": [1]}
    assert (version_of(read), version_of({})) == ("3.1", "2.1")
    (problem,) = form().misfits({"metadata": {"v": "2.1"}})
    assert problem["pointer"] == "/metadata/v"
