"""The base of the resource's models: strict, closed, camelCase, and told apart by which optional member is set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

CEL = "x-kubernetes-validations"
"""The schema key that holds rules for the API server, in Kubernetes' own form: a list of {rule, message}."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A set of members (by their YAML names) of which one, or at most one, may be given. Kubernetes knows no unions."""

    members: tuple[str, ...]
    why: str
    required: bool = True

    @property
    def message(self) -> str:
        names = ", ".join(self.members[:-1]) + " and " + self.members[-1]
        return f"give {'exactly' if self.required else 'at most'} one of {names}: {self.why}"

    @property
    def rule(self) -> str:
        count = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in self.members)
        return f"{count} {'==' if self.required else '<='} 1"


class Model(BaseModel):
    """What every model of the resource is. Unknown fields are refused, and nothing is coerced to another type."""

    model_config = ConfigDict(
        defer_build=True,
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )
    choices: ClassVar[tuple[Choice, ...]] = ()
    cel: ClassVar[tuple[tuple[str, str], ...]] = ()
    """CEL rules (rule, message) that the validators of the class check in Python too."""

    @model_validator(mode="after")
    def _one_of_each_choice(self) -> Self:
        names = {field.alias or name: name for name, field in type(self).model_fields.items()}
        for choice in self.choices:
            given = [member for member in choice.members if getattr(self, names[member]) is not None]
            if len(given) > 1 or (choice.required and not given):
                found = f" (found {' and '.join(given)})" if given else " (found none)"
                raise invalid(choice.message + found)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler.resolve_ref_schema(handler(schema))
        rules = [{"rule": choice.rule, "message": choice.message} for choice in cls.choices]
        rules += [{"rule": rule, "message": message} for rule, message in cls.cel]
        if rules:
            json_schema[CEL] = rules
        return json_schema


def invalid(message: str) -> PydanticCustomError:
    """What a validator raises: the message reaches the user as it is, so braces in it stand for themselves."""
    return PydanticCustomError("invalid", "{message}", {"message": message})


def immutable(why: str) -> dict[str, Any]:
    """`json_schema_extra` of a field that cannot change once it is set; ``why`` ends the API server's message."""
    return {CEL: [{"rule": "self == oldSelf", "message": f"cannot be changed: {why}"}]}


def keyed_by(*keys: str) -> dict[str, Any]:
    """`json_schema_extra` of a list that is a map by these keys, so that server-side apply merges its entries."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


FREE_FORM: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
"""`json_schema_extra` of a field that holds any JSON."""


M = TypeVar("M", bound=Model)


def at(default: M, region: str) -> M:
    """The settings that hold in ``region``: the default's, each overridden by what the region's entry names.

    For models with a ``per_region`` list whose entries have a ``region`` and a subset of the model's own fields.
    """
    entries: Sequence[Model] = getattr(default, "per_region", ())
    for entry in entries:
        if getattr(entry, "region", None) == region:
            named = {name: getattr(entry, name) for name in entry.model_fields_set if name != "region"}
            return _merged(default, named)
    return default


def _merged(default: M, named: Mapping[str, Any]) -> M:
    # A way to give a value that the region names replaces the default's other way to give the same value.
    update = {name: value for name, value in named.items() if value is not None and name in type(default).model_fields}
    for choice in default.choices:
        fields = [name for name, field in type(default).model_fields.items() if (field.alias or name) in choice.members]
        if any(field in update for field in fields):
            update = dict.fromkeys(fields) | update
    return default.model_copy(update=update)
