"""A schema or a migration that cannot be used is refused with the resource: where, why, and what to do."""

import json
from typing import Any

import pytest

from agentmemory_sidecar.resource import ResourceError, parse

Json = dict[str, Any]
MOVE = {"op": "move", "from": "/extracted_context/notes", "path": "/extracted_context/journal"}
TEXTS = {"properties": {"extracted_context": {"properties": {"journal": {"type": "array", "maxItems": 2}}}}}
BEFORE, AFTER = ({"extracted_context": {name: ["a"]}} for name in ("notes", "journal"))


def resource(schema: Json | None = None, *migrations: Json, version: str = "3") -> Json:
    state: Json = {"migrations": list(migrations)}
    if schema is not None:
        state["schema"] = {"version": version, "definition": schema}
    spec = {"session": {"identity": {"headers": ["X"]}}, "state": state}
    return {"apiVersion": "agentmemory.io/v1alpha1", "kind": "AgentMemory", "metadata": {"name": "a"}, "spec": spec}


def migration(*patch: Json, start: str = "2.1", end: str = "3", tests: list[Json] | None = None) -> Json:
    return {"from": start, "to": end, "patch": list(patch), "tests": tests or []}


def test_what_holds_together_is_taken() -> None:
    test = {"before": {**BEFORE, "metadata": {"v": "2.1"}}, "after": AFTER}
    made = parse(resource(TEXTS, migration(MOVE, start="2", end="2.1"), migration(MOVE, tests=[test])))
    assert made.spec.state.schema_ is not None
    parse(resource({}))
    parse(resource(TEXTS, migration({"op": "add", "path": "/note", "value": None})))


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        (resource({"type": "strin"}), "schema.definition.type", "is no JSON Schema (2020-12)"),
        (resource({"$schema": "http://json-schema.org/draft-07/schema#"}), "schema.definition.$schema", "leave it out"),
        (resource({"properties": {"metadata": {}}}), "schema.definition.properties.metadata", "leave it out"),
        (resource({"required": ["metadata"]}), "schema.definition.required", "leave it out"),
        (resource({"items": {"pinned": True}}), "schema.definition.items", "mark the member"),
        (resource({"required": ["mine"]}), "schema.definition", "give that field a default, or ask less of it"),
        (resource({"additionalProperties": False}), "schema.definition", "active_mission"),
        (resource({"title": "x" * 64_000}), "schema.definition", "64000 bytes"),
        (resource(TEXTS, version="2"), "schema.version", "older than 2.1"),
        (resource(TEXTS, migration(MOVE, end="2.5")), "migrations[0].to", "leads to 2.5, from where none goes on"),
        (resource(TEXTS, migration(MOVE), migration(MOVE)), "migrations[1].from", "make one of the two"),
        (resource(TEXTS, migration({"op": "add", "path": "/a"})), "migrations[0].patch[0].value", "add needs it"),
        (resource(TEXTS, migration({"op": "move", "path": "/a"})), "migrations[0].patch[0].from", "move needs it"),
        (resource(TEXTS, migration({"op": "remove", "path": "/metadata/v"})), "migrations[0].patch[0].path", "metadata"),
        (resource(TEXTS, migration({"op": "remove", "path": ""})), "migrations[0].patch[0].path", "other than"),
        (resource(TEXTS, migration(MOVE, tests=[{"before": BEFORE, "after": BEFORE}])), "migrations[0].tests[0].after",
         json.dumps(AFTER)),
        (resource(TEXTS, migration(MOVE, tests=[{"before": AFTER, "after": AFTER}])), "migrations[0].tests[0].before",
         "no state that the patch works on"),
        (resource(TEXTS, migration(MOVE, tests=[{"before": {"extracted_context": {"notes": [1, 2, 3]}},
                                                 "after": {"extracted_context": {"journal": [1, 2, 3]}}}])),
         "migrations[0].tests[0].after", "at /extracted_context/journal"),
    ],
)  # fmt: skip
def test_what_does_not_is_refused_with_its_place(given: Json, field: str, says: str) -> None:
    with pytest.raises(ResourceError) as told:
        parse(given)
    message = str(told.value)
    assert f"spec.state.{field}: " in message
    assert says in message
