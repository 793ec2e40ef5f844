"""The declared form of the state: what its JSON Schema marks, and whether it and the migrations to it hold together. Pure.

A field is marked in its schema with ``pinned: true``, or ``relevant``, ``archived`` or ``neverInPrompt``, one of which
excludes the others, and ``pii: true``. The schema says nothing of ``OWN``.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

CLASSES = ("pinned", "relevant", "archived", "neverInPrompt")
MARKS = (*CLASSES, "pii")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "2.1"
"""The version of the form that a state has where the resource declares none."""
MOST_BYTES = 64_000
"""The longest schema (JSON), so that a resource stays what an API server keeps."""
OWN = ("metadata", "memories")
"""Members that no schema speaks of: the sidecar's own notes, and the files of Claude's memory tool."""
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
"""Keywords whose members are schemas by names of the user's own, which are no keywords."""
_VALUES = ("default", "const", "enum", "examples")
Where = tuple[str | int, ...]
State = dict[str, Any]


class Wrong(Exception):
    """A schema or a migration that cannot be used: where in it, what is wrong, and what to do."""

    def __init__(self, where: Where, message: str) -> None:
        super().__init__(message)
        self.where, self.message = where, message


@dataclass(slots=True)
class Marks:
    """Pointers of marked fields, in the schema's order."""

    pinned: list[str] = field(default_factory=list)
    relevant: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    never_in_prompt: list[str] = field(default_factory=list)
    pii: list[str] = field(default_factory=list)


class Step(Protocol):
    """One migration."""

    @property
    def from_(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def operations(self) -> Sequence[Mapping[str, Any]]:
        """A JSON Patch."""


def number(version: str) -> tuple[int, ...]:
    """A version to compare by: "2.1" and "2.1.0" are the same. What is none is older than all."""
    try:
        parts = [int(part) for part in version.split(".")]
    except ValueError:
        return ()
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return tuple(parts)


def validator(definition: Mapping[str, Any]) -> "Draft202012Validator":
    """The schema, compiled; nothing is fetched, and no message quotes a value. Raises Wrong."""
    # Only here: a resource without a schema, which is most, never pays for the library.
    import jsonschema_rs

    try:
        # A dialect is checked below; a reference out of the schema finds nothing.
        return jsonschema_rs.Draft202012Validator(dict(definition), mask="the value", offline=True)
    except jsonschema_rs.ValidationError as error:
        raise Wrong(tuple(error.instance_path), f"is no JSON Schema (2020-12): {_first_line(error)}") from None
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise Wrong((), f"is no JSON Schema (2020-12): {_first_line(error)}") from None


@dataclass(frozen=True, slots=True)
class Field:
    """A member that the schema names."""

    pointer: str
    where: Where
    """Where in the schema it is declared."""
    refers: Where | None
    """What it refers to in the schema."""
    schema: Mapping[str, Any]
    """What is said of it in both places."""


def marks(definition: Mapping[str, Any]) -> Marks:
    """What the schema marks. Raises Wrong."""
    found = Marks()
    declared = list(fields(definition))
    for each in declared:
        _mark(found, each)
    named = {each.where for each in declared} | {each.refers for each in declared}
    for where in _marked(definition, ()):
        if where not in named:
            raise Wrong(
                where,
                "is marked, but is no named member of an object: mark the member under `properties` in which it lies",
            )
    _apart(found)
    return found


def fields(definition: Mapping[str, Any]) -> Iterator[Field]:
    """Every member that the schema names in ``properties``, those of members and of what they refer to included."""
    yield from _walk(definition, definition, "", (), frozenset())


def with_defaults(state: State, definition: Mapping[str, Any]) -> State:
    """The state with the declared defaults where it has nothing, or null."""
    state = copy.deepcopy(state)
    for each in fields(definition):
        if "default" not in each.schema:
            continue
        *above, last = (part.replace("~1", "/").replace("~0", "~") for part in each.pointer[1:].split("/"))
        place: Any = state
        for name in above:
            place = place.setdefault(name, {}) if isinstance(place, dict) else None
        if isinstance(place, dict) and place.get(last) is None:
            place[last] = copy.deepcopy(each.schema["default"])
    return state


def beginning(user: str, version: str, definition: Mapping[str, Any] | None) -> State:
    """A state that knows nothing yet."""
    state: State = {
        "metadata": {"v": version, "user_id": user},
        "active_mission": {"goal": None, "sub_tasks": [], "blocked_by": None},
        "extracted_context": {},
    }
    return with_defaults(state, definition) if definition is not None else state


def misfits(valid: "Draft202012Validator", state: Mapping[str, Any]) -> dict[str, str]:
    """What does not fit, by pointer; a value that was moved to the blob store fits, for it did when it was written."""
    instance = {name: value for name, value in state.items() if name not in OWN}
    if valid.is_valid(instance):
        return {}
    found: dict[str, str] = {}
    for error in valid.iter_errors(instance):
        if not _has_link(_at(instance, error.instance_path)):
            pointer = "".join("/" + _escaped(part) for part in error.instance_path)
            found.setdefault(pointer, error.message)
    return found


def migrated(state: State, steps: Mapping[str, Step], version: str) -> State:
    """The state in the form of this version, or as it is where no steps lead there or one does not fit.

    ``steps`` are by the version they begin with. ``metadata`` is not theirs.
    """
    metadata = state.get("metadata")
    before = str(metadata.get("v", REFERENCE)) if isinstance(metadata, dict) else REFERENCE
    if number(before) >= number(version):
        return state
    at, body = before, {name: value for name, value in state.items() if name != "metadata"}
    while number(at) != number(version):
        step = steps.get(at)
        if step is None or number(step.to) <= number(at):
            return state
        try:
            body = patched(body, step.operations)
        except Wrong:
            return state
        at = step.to
    known = metadata if isinstance(metadata, dict) else {}
    return {"metadata": {**known, "v": version}, **body}


def patched(body: State, operations: Sequence[Mapping[str, Any]]) -> State:
    """A JSON Patch applied; the old value stays as it was. Raises Wrong."""
    import jsonpatch

    try:
        result = jsonpatch.apply_patch(body, [dict(operation) for operation in operations])
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise Wrong((), f"does not apply: {_first_line(error)}") from None
    if not isinstance(result, dict):
        raise Wrong((), "leaves no object")
    return result


# ------------------------------------------------------------------------------------------------------------- inside


def _walk(root: Mapping[str, Any], schema: Any, pointer: str, where: Where, through: frozenset[str]) -> Iterator[Field]:
    """``through`` are the references that led here: a form that holds itself has no end."""
    members = schema.get("properties") if isinstance(schema, dict) else None
    for name, member in members.items() if isinstance(members, dict) else ():
        if not isinstance(member, dict):
            continue
        inner, at = f"{pointer}/{_escaped(name)}", (*where, "properties", str(name))
        reference = member.get("$ref")
        if not isinstance(reference, str) or reference in through:
            yield Field(inner, at, None, member)
            yield from _walk(root, member, inner, at, through)
            continue
        target, place = _referred(root, reference)
        yield Field(inner, at, place, {**target, **member})
        yield from _walk(root, member, inner, at, through)
        yield from _walk(root, target, inner, place, through | {reference})


def _escaped(name: Any) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def _referred(root: Mapping[str, Any], reference: str) -> tuple[dict[str, Any], Where]:
    """What a reference within the schema names, and its place."""
    parts = tuple(part.replace("~1", "/").replace("~0", "~") for part in reference.removeprefix("#").split("/")[1:])
    node: Any = root if reference.startswith("#") else None
    for part in parts:
        node = node.get(part) if isinstance(node, dict) else None
    return (node if isinstance(node, dict) else {}), parts


def _mark(found: Marks, each: Field) -> None:
    given = [word for word in MARKS if word in each.schema]
    for word in given:
        if not isinstance(each.schema[word], bool):
            raise Wrong((*each.where, word), "must be true or false")
    words = [word for word in given if each.schema[word]]
    classes = [word for word in words if word in CLASSES]
    if len(classes) > 1:
        raise Wrong(each.where, f"is marked {' and '.join(classes)}, which exclude each other: keep one")
    lists = dict(
        zip(MARKS, (found.pinned, found.relevant, found.archived, found.never_in_prompt, found.pii), strict=True)
    )
    for word in words:
        lists[word].append(each.pointer)


def _apart(found: Marks) -> None:
    for outer in (*found.archived, *found.never_in_prompt):
        for inner in (*found.pinned, *found.relevant):
            if inner.startswith(outer + "/"):
                raise Wrong(
                    (), f"marks {inner} for prompts, but {outer}, in which it lies, stays out of them: mark one"
                )


def _marked(node: Any, where: Where) -> Iterator[Where]:
    """Where schemas with marks are."""
    if isinstance(node, list):
        for at, inner in enumerate(node):
            yield from _marked(inner, (*where, at))
    if not isinstance(node, dict):
        return
    if any(word in node for word in MARKS):
        yield where
    for name, inner in node.items():
        if name in _BY_NAME and isinstance(inner, dict):
            for member, schema in inner.items():
                yield from _marked(schema, (*where, name, str(member)))
        elif name not in _VALUES and name not in MARKS:
            yield from _marked(inner, (*where, name))


def _at(instance: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        try:
            instance = instance[part]
        except (KeyError, IndexError, TypeError):
            return None
    return instance


def _has_link(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) == {"$blob"} or any(map(_has_link, value.values()))
    return isinstance(value, list) and any(map(_has_link, value))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
