"""What must hold of a declared schema and of the migrations to it. Pure: a spec in, problems out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentmemory_sidecar.resource import state_schema as forms
from agentmemory_sidecar.resource.state import Migration, State

Found = tuple[tuple[str | int, ...], str]
"""A path below ``spec.state``, and what is wrong there, with what to do."""


def wrong(state: State) -> Iterator[Found]:
    """All that is wrong of ``schema`` and ``migrations``."""
    if state.schema_ is not None:
        where = ("schema", "version")
        if forms.number(state.schema_.version) < forms.number(forms.REFERENCE):
            yield where, f"is older than {forms.REFERENCE}, with which states begin: name that or a later one"
        yield from _definition(state.schema_.definition, state.schema_.version)
    yield from _chain(state)
    for index, migration in enumerate(state.migrations):
        for path, message in _migration(migration, state):
            yield ("migrations", index, *path), message


def _definition(definition: Mapping[str, Any], version: str) -> Iterator[Found]:
    where = ("schema", "definition")
    if len(json.dumps(definition)) > forms.MOST_BYTES:
        yield where, f"has more than {forms.MOST_BYTES} bytes: say less of fields that need no check"
        return
    if (dialect := definition.get("$schema", forms.DIALECT)) != forms.DIALECT:
        yield (*where, "$schema"), f"is {str(dialect)[:80]!r}: leave it out, or name {forms.DIALECT}"
        return
    members, required = definition.get("properties"), definition.get("required")
    for own in forms.OWN:
        if isinstance(members, dict) and own in members:
            yield (*where, "properties", own), "is the sidecar's own: leave it out"
        if isinstance(required, list) and own in required:
            yield (*where, "required"), f"names {own}, which is the sidecar's own: leave it out"
    try:
        valid = forms.validator(definition)
        forms.marks(definition)
    except forms.Wrong as error:
        yield (*where, *error.where), error.message
        return
    for pointer, message in forms.misfits(valid, forms.beginning("", version, definition)).items():
        yield (
            where,
            (
                f"does not take the state that a session begins with: {message}, at {pointer or 'the top'}: give that field "
                "a default, or ask less of it (a new state has active_mission with goal, sub_tasks and blocked_by, and an "
                "empty extracted_context)"
            ),
        )


def _chain(state: State) -> Iterator[Found]:
    target = state.schema_.version if state.schema_ else forms.REFERENCE
    begins = [forms.number(migration.from_) for migration in state.migrations]
    for index, migration in enumerate(state.migrations):
        path = ("migrations", index)
        if forms.number(migration.to) <= forms.number(migration.from_):
            yield (*path, "to"), f"is not later than {migration.from_}, where it comes from: name a later version"
        elif begins.index(forms.number(migration.from_)) != index:
            yield (*path, "from"), f"is {migration.from_} like another migration's: make one of the two"
        elif forms.number(migration.to) not in (*begins, forms.number(target)):
            yield (
                (*path, "to"),
                (
                    f"leads to {migration.to}, from where none goes on: name {target}, the version of the schema, or add a "
                    "migration from there"
                ),
            )


def _migration(migration: Migration, state: State) -> Iterator[Found]:
    for index, operation in enumerate(migration.patch):
        needs = {"add": "value", "replace": "value", "test": "value", "move": "from_", "copy": "from_"}.get(
            operation.op
        )
        if needs and needs not in operation.model_fields_set:
            yield ("patch", index, needs.rstrip("_")), f"is missing: {operation.op} needs it"
            return
        for name, pointer in (("path", operation.path), ("from", operation.from_ or "/")):
            if pointer == "" or pointer.split("/")[1] in forms.OWN:
                said = f"is not a migration's to change: name a member other than {' and '.join(forms.OWN)}"
                yield ("patch", index, name), said
                return
    definition = state.schema_.definition if state.schema_ and state.schema_.version == migration.to else None
    for index, test in enumerate(migration.tests):
        path = ("tests", index)
        try:
            after = forms.patched(_body(test.before), operations(migration))
            if after != _body(test.after):
                yield (*path, "after"), f"is not what the patch makes of `before`: that is {json.dumps(after)[:400]}"
            elif definition is not None:
                for pointer, message in forms.misfits(forms.validator(definition), after).items():
                    yield (*path, "after"), f"does not fit the schema: {message}, at {pointer or 'the top'}"
        except forms.Wrong as error:
            if error.where == ():
                yield (*path, "before"), f"is no state that the patch works on: it {error.message}"


def operations(migration: Migration) -> Sequence[Mapping[str, Any]]:
    """A migration's patch as JSON has it."""
    return [
        {"op": each.op, "path": each.path}
        | ({"from": each.from_} if each.from_ is not None else {})
        | ({"value": each.value} if "value" in each.model_fields_set else {})
        for each in migration.patch
    ]


def _body(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "metadata"}
