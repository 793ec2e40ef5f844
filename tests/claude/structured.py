"""Structured output: which schemas the API takes, and that answers conform."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from tests.claude.errors import bad

_NOT_TAKEN = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "patternProperties", "minProperties", "maxProperties", "if", "then", "else", "not",
})  # fmt: skip
_MOST_UNIONS = 16
_AT = "output_config.format.schema"


def schema_of(params: dict[str, Any]) -> dict[str, Any] | None:
    """The schema that a request wants its answer to have."""
    wanted = (params.get("output_config") or {}).get("format") or {}
    return wanted.get("schema") if isinstance(wanted, dict) else None


def check(params: dict[str, Any]) -> None:
    """Raise the API's 400 for a schema that it does not take, or one beside a prefilled answer."""
    schema = schema_of(params)
    if schema is None:
        return
    unions = sum("anyOf" in part or isinstance(part.get("type"), list) for _, part in _parts(schema, _AT))
    if unions > _MOST_UNIONS:
        raise bad(f"{_AT}: too many parameters with union types: {unions}", rule="output_format")
    if schema.get("type") != "object":
        raise bad(f"{_AT}: the top level must be an object", rule="output_format")
    for path, part in _parts(schema, _AT):
        if taken := sorted(_NOT_TAKEN.intersection(part)):
            raise bad(
                f"{path}: For '{part.get('type')}' type, property '{taken[0]}' is not supported", rule="output_format"
            )
        if part.get("minItems", 0) not in (0, 1):
            raise bad(
                f"{path}: For 'array' type, 'minItems' values other than 0 or 1 are not supported", rule="output_format"
            )
        if part.get("type") == "object" and part.get("additionalProperties") is not False:
            raise bad(
                f"{path}: For 'object' type, 'additionalProperties' must be explicitly set to false",
                rule="output_format",
            )
    messages = params.get("messages") or [{}]
    if messages[-1].get("role") == "assistant":
        raise bad("output_config.format: not supported together with a prefilled answer", rule="output_format")


def _parts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in (schema.get("properties") or {}).items():
        if isinstance(inner, dict):
            yield from _parts(inner, f"{path}.properties.{name}")
    for name, inner in (schema.get("$defs") or {}).items():
        yield from _parts(inner, f"{path}.$defs.{name}")
    for word in ("anyOf", "allOf"):
        for at, inner in enumerate(schema.get(word) or ()):
            yield from _parts(inner, f"{path}.{word}.{at}")
    if isinstance(schema.get("items"), dict):
        yield from _parts(schema["items"], f"{path}.items")


def conforms(schema: dict[str, Any], text: str) -> None:
    """Raise ValueError where an answer is not one that the API would have let the model give."""
    try:
        value = json.loads(text)
    except ValueError:
        raise ValueError("the scripted answer is no JSON, which output_config.format makes sure of") from None
    for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(value):
        where = "/".join(map(str, error.instance_path))
        raise ValueError(f"the scripted answer does not have the schema asked for, at /{where}: {error.message}")


def smallest(schema: dict[str, Any]) -> Any:
    """The smallest value of a schema: what the stand-in answers where no script says more."""
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return smallest(schema["anyOf"][0])
    match schema.get("type"):
        case "object":
            return {name: smallest(schema["properties"][name]) for name in schema.get("required", [])}
        case "array":
            return []
        case "string":
            return ""
        case "boolean":
            return False
        case "number" | "integer":
            return 0
    return None
