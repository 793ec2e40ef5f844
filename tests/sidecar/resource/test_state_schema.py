"""What a schema marks, what it takes, and what migrations make of older states."""

from types import SimpleNamespace
from typing import Any

import pytest

from agentmemory_sidecar.resource import state_schema as forms
from agentmemory_sidecar.resource.state_schema import Wrong

Json = dict[str, Any]

TICKET: Json = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pinned": True},
        "mail": {"type": "string", "neverInPrompt": True, "pii": True},
        "status": {"type": "string", "relevant": True, "default": "new"},
        "a/b": {"archived": True},
        "pinned": {"type": "boolean"},
    },
}


def below(schema: Json, **more: Any) -> Json:
    return {"properties": {"extracted_context": {"properties": {"ticket": schema}}}, **more}


def test_marks_are_found_by_pointer() -> None:
    found = forms.marks(below(TICKET))
    at = "/extracted_context/ticket/"
    assert (found.pinned, found.never_in_prompt, found.pii) == ([at + "id"], [at + "mail"], [at + "mail"])
    assert (found.relevant, found.archived) == ([at + "status"], [at + "a~1b"])


def test_marks_are_found_through_references_and_a_form_that_holds_itself_ends() -> None:
    node = {"properties": {"name": {"pinned": True}, "next": {"$ref": "#/$defs/node"}}}
    found = forms.marks(below({"$ref": "#/$defs/node"}, **{"$defs": {"node": node}}))
    assert found.pinned == ["/extracted_context/ticket/name"]
    assert forms.marks(below({"$ref": "#/$defs/n", "pii": True}, **{"$defs": {"n": {}}})).pii


@pytest.mark.parametrize(
    ("schema", "where", "part"),
    [
        ({"items": {"pinned": True}}, ("items",), "no named member"),
        ({"items": {"properties": {"a": {"pinned": True}}}}, ("items", "properties", "a"), "no named member"),
        ({"anyOf": [{"properties": {"a": {"pii": True}}}]}, ("anyOf", 0, "properties", "a"), "no named member"),
        ({"pinned": True, "archived": True}, (), "exclude each other"),
        ({"pinned": "yes"}, ("pinned",), "must be true or false"),
    ],
)
def test_marks_that_mean_nothing_are_refused(schema: Json, where: tuple[object, ...], part: str) -> None:
    with pytest.raises(Wrong) as told:
        forms.marks(below(schema))
    assert told.value.where == ("properties", "extracted_context", "properties", "ticket", *where)
    assert part in told.value.message


def test_what_lies_in_a_field_that_stays_out_of_prompts_cannot_be_pinned() -> None:
    with pytest.raises(Wrong, match="/extracted_context/ticket/id for prompts, but /extracted_context/ticket"):
        forms.marks(below({**TICKET, "archived": True}))


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"type": "strin"}, "anyOf"),
        ({"pattern": "("}, "regex"),
        ({"$ref": "#/$defs/none"}, "does not exist"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "127.0.0.1"),
        ({"properties": []}, "object"),
    ],
)
def test_what_is_no_schema_is_refused_and_nothing_is_fetched(schema: Json, part: str) -> None:
    with pytest.raises(Wrong, match=part):
        forms.validator(schema)


def test_defaults_fill_what_is_not_there_or_null() -> None:
    goal = {
        "properties": {"active_mission": {"properties": {"goal": {"default": "help"}, "sub_tasks": {"default": ["a"]}}}}
    }
    state = forms.beginning("u", "3", goal)
    assert state["active_mission"] == {"goal": "help", "sub_tasks": [], "blocked_by": None}
    assert forms.beginning("u", "3", below(TICKET))["extracted_context"] == {"ticket": {"status": "new"}}
    assert forms.with_defaults({"extracted_context": 7}, below(TICKET)) == {"extracted_context": 7}


def test_misfits_say_where_and_never_what() -> None:
    valid = forms.validator(below({"properties": {"id": {"type": "string", "maxLength": 3}}, "required": ["id"]}))
    assert forms.misfits(valid, {"extracted_context": {"ticket": {"id": "abc"}}, "metadata": 7}) == {}
    found = forms.misfits(valid, {"extracted_context": {"ticket": {"id": "secret"}}})
    assert list(found) == ["/extracted_context/ticket/id"]
    assert "secret" not in str(found)
    blob = {"$blob": {"key": "k", "size": 20_000, "type": "text/plain", "summary": "…"}}
    assert forms.misfits(valid, {"extracted_context": {"ticket": {"id": blob}}}) == {}


# ---------------------------------------------------------------------------------------------------------- migrations


def step(start: str, end: str, *operations: Json) -> SimpleNamespace:
    return SimpleNamespace(from_=start, to=end, operations=operations)


STEPS = {
    "2.1": step("2.1", "3", {"op": "move", "from": "/extracted_context/notes", "path": "/extracted_context/journal"}),
    "3": step("3", "3.1", {"op": "add", "path": "/extracted_context/kind", "value": "ticket"}),
}
OLD: Json = {"metadata": {"v": "2.1", "user_id": "u"}, "extracted_context": {"notes": ["a"], "mine": 1}}


def test_a_state_goes_through_every_migration_and_keeps_what_they_do_not_name() -> None:
    new = forms.migrated(OLD, STEPS, "3.1")
    assert new["metadata"] == {"v": "3.1", "user_id": "u"}
    assert new["extracted_context"] == {"journal": ["a"], "mine": 1, "kind": "ticket"}
    assert OLD["extracted_context"] == {"notes": ["a"], "mine": 1}
    assert forms.migrated(new, STEPS, "3.1") is new


@pytest.mark.parametrize(
    ("state", "steps", "version"),
    [
        ({**OLD, "extracted_context": {}}, STEPS, "3.1"),
        (OLD, {"2.1": STEPS["2.1"]}, "3.1"),
        ({**OLD, "metadata": {"v": "4"}}, STEPS, "3.1"),
        ({**OLD, "metadata": {"v": "odd"}}, STEPS, "3.1"),
    ],
    ids=["does not apply", "no way there", "is newer", "no version"],
)
def test_a_state_that_cannot_be_migrated_stays_as_it_is(state: Json, steps: Any, version: str) -> None:
    assert forms.migrated(state, steps, version) is state


def test_versions_compare_as_numbers() -> None:
    assert forms.number("2.10") > forms.number("2.9")
    assert forms.number("3.0") == forms.number("3")
