"""How configurations are written, so that sidecars of another age can read them. Pods live long: while an operator is
upgraded and for as long as nobody makes a pod anew, older sidecars read what it writes.

The rules:

- A reader refuses fields that it does not know, and then works on with the last configuration that it could read.
- A field that has its default is not written. A new field with a default is therefore nothing to older sidecars until it is
  used, and no default changes within a format: what is not written must mean the same to all.
- A new field that a resource may set is marked :class:`Since` the next format, which begins with it: :data:`FORMAT` rises.
  The last two formats are written side by side, each with the fields that it knows. (Format 1 grows until the first release:
  no sidecar of it is anywhere yet.)
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

FORMAT: Literal[1] = 1
"""The format that this version reads; it refuses any other."""
WRITTEN = tuple(range(max(1, FORMAT - 1), FORMAT + 1))
"""The formats that are written, the newest last."""
ALWAYS = frozenset({"format", "kind"})
"""Written though they have their defaults: they tell a reader what it reads."""


def key(version: int) -> str:
    """The key of a Secret that holds a format."""
    return f"v{version}.json"


@dataclass(frozen=True, slots=True)
class Since:
    """Marks a field that came with a format: ``Annotated[int, Since(2)] = 0``. Older formats are written without it."""

    version: int


@dataclass(frozen=True, slots=True)
class Writing:
    """The context of a dump that is to be read again: **with its secrets**, in a format."""

    version: int = FORMAT


def _shown(value: SecretStr, info: SerializationInfo) -> str:
    return value.get_secret_value() if isinstance(info.context, Writing) else str(value)


Secret = Annotated[SecretStr, PlainSerializer(_shown)]


class Config(BaseModel):
    """The base of the configuration's models."""

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        shown: dict[str, Any] = handler(self)
        if not isinstance(info.context, Writing):
            return shown
        version = info.context.version
        if "format" in shown:
            shown["format"] = version
        return {name: value for name, value in shown.items() if name in ALWAYS or self._tells(name, version)}

    def _tells(self, name: str, version: int) -> bool:
        """Whether a field says something, and to the readers of that format."""
        field = type(self).model_fields[name]
        if any(isinstance(mark, Since) and mark.version > version for mark in field.metadata):
            return False
        return bool(getattr(self, name) != field.get_default(call_default_factory=True))
