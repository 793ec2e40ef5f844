"""From YAML text, or an object of the API server, to an :class:`AgentMemory`. All bad input is a ResourceError."""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agentmemory_sidecar.resource.agentmemory import API_VERSION, KIND, AgentMemory
from agentmemory_sidecar.resource.checks import problems
from agentmemory_sidecar.resource.errors import ResourceError
from agentmemory_sidecar.resource.yamltext import Document, Path, documents

MAX_BYTES = 1 << 20
"""The largest YAML file that is read: 1 MiB, which is also about what the API server takes."""


def load(file: FilePath | str, name: str = "") -> AgentMemory:
    """Read the AgentMemory of a YAML file, by ``name`` where it holds several. Raises ResourceError."""
    path = FilePath(file)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ResourceError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(data) > MAX_BYTES:
        raise ResourceError([f"{path}: is larger than 1 MiB: an AgentMemory is far smaller"])
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ResourceError([f"{path}: is not UTF-8 text"]) from None
    return loads(text, name, source=str(path))


def loads(text: str, name: str = "", *, source: str = "<text>") -> AgentMemory:
    """As :func:`load`, from text; ``source`` is what messages call it."""
    found = [document for document in documents(text, source) if _is_ours(document.data)]
    if not found:
        raise ResourceError(
            [f"{source}: holds no AgentMemory: it needs a document with apiVersion {API_VERSION} and kind {KIND}"]
        )
    names = [_name(document.data) for document in found]
    if name:
        chosen = [document for document in found if _name(document.data) == name]
        if len(chosen) != 1:
            how = "no AgentMemory is" if not chosen else "several AgentMemories are"
            raise ResourceError([f"{source}: {how} called {name}; it holds {_listed(names)}"])
    elif len(found) > 1:
        raise ResourceError([f"{source}: holds several AgentMemories: say which one by name: {_listed(names)}"])
    else:
        chosen = found
    return _parse(chosen[0])


def parse(data: Mapping[str, Any], *, source: str = "<object>") -> AgentMemory:
    """Check an object that is no YAML text (from the API server). Raises ResourceError."""
    return _parse(Document(data, source, {}))


def _parse(document: Document) -> AgentMemory:
    try:
        # As JSON, because strict mode then still takes lists for tuples and strings for enums.
        resource = AgentMemory.model_validate_json(json.dumps(document.data, allow_nan=False))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=True)
        wrong = [_problem(document, detail) for detail in details if not _follows(detail, details)]
        raise ResourceError(wrong) from None
    except ValueError:
        raise ResourceError([f"{document.source}: .nan and .inf have no place in a resource: write a number"]) from None
    wrong = [document.message(problem.path, problem.message) for problem in problems(resource.spec)]
    if wrong:
        raise ResourceError(wrong)
    return resource.read_from(Document(None, document.source, document.lines))


def _is_ours(data: Any) -> bool:
    """Whether the document means to be an AgentMemory, even where it says so wrongly."""
    return isinstance(data, Mapping) and (data.get("kind") == KIND or "agentmemory.io" in str(data.get("apiVersion")))


def _name(data: Any) -> str:
    metadata = data.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""


def _listed(names: list[str]) -> str:
    return ", ".join(name or "(one without a name)" for name in names)


def _follows(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether a list is only too short because an entry of it is wrong."""
    path = detail["loc"]
    return detail["type"] == "too_short" and any(
        other["loc"][: len(path)] == path and len(other["loc"]) > len(path) for other in details
    )


def _problem(document: Document, detail: ErrorDetails) -> str:
    """One line for one of pydantic's errors. Inputs are never quoted: they may be secrets."""
    path: Path = detail["loc"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return document.message(path, "there is no such field" + _suggestion(path))
        case "missing":
            return document.message(path, "is missing: it must be given")
        case "literal_error" | "enum":
            expected = str(context["expected"]).replace("'", "")
            return document.message(path, f"must be {expected}" + _hint(document.value(path), expected))
        case "value_error":
            return document.message(path, str(context["error"]))
        case "model_type" | "dict_type" | "model_attributes_type":
            value = document.value(path)
            remedy = ": write {} for its defaults, or leave it out" if value is None else ""
            return document.message(path, f"must be a mapping of fields, not {_kind(value)}{remedy}")
        case "tuple_type" | "list_type":
            return document.message(path, f"must be a list, not {_kind(document.value(path))}: put it in [ ]")
        case "string_type":
            return document.message(path, f"must be text, not {_kind(document.value(path))}: put it in quotes")
        case "int_type" | "int_from_float":
            return document.message(path, f"must be a whole number, not {_kind(document.value(path))}")
        case "bool_type":
            return document.message(path, f"must be true or false, not {_kind(document.value(path))}")
        case "greater_than_equal":
            return document.message(path, f"must be at least {context['ge']}")
        case "less_than_equal":
            return document.message(path, f"must be at most {context['le']}")
        case "too_long":
            return document.message(path, f"may have at most {context['max_length']} entries")
        case "too_short":
            return document.message(path, f"must have at least {context['min_length']} entries")
        case "string_too_long":
            return document.message(path, f"may have at most {context['max_length']} characters")
        case "string_too_short":
            return document.message(path, "must not be empty")
        case _:
            return document.message(path, detail["msg"])


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "a mapping"
        case _:
            return "a list"


def _hint(value: Any, expected: str) -> str:
    options = [word for word in expected.replace(",", " ").split() if word != "or"]
    close = [option for option in options if isinstance(value, str) and option.lower() == value.lower()]
    return f" (did you mean {close[0]}?)" if close else ""


def _suggestion(path: Path) -> str:
    """`: did you mean X?` or the fields there are, for the unknown field at the end of ``path``."""
    model: type[BaseModel] | None = AgentMemory
    for step in path[:-1]:
        if isinstance(step, str):
            model = next((m for n, m in _fields(model) if n == step), None) if model else None
    names = [name for name, _ in _fields(model)] if model else []
    unknown = str(path[-1])
    camel = {name.lower(): name for name in names}
    close = camel.get(unknown.replace("_", "").replace("-", "").lower())
    near = [close] if close else difflib.get_close_matches(unknown, names, n=1)
    if near:
        return f": did you mean {near[0]}?"
    return f": there are {', '.join(sorted(names))}" if names else ""


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel] | None]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, model_in(field.annotation)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field's annotation holds (itself, optional, or in a list), if any."""
    if get_origin(annotation) is None and isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in get_args(annotation) if (found := model_in(part))), None)
