"""What an administrator sends, made into a patch: a JSON Merge Patch (RFC 7396) or a JSON Patch (RFC 6902)."""

from typing import Any

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.state import (
    MAX_OPERATIONS,
    MAX_PATCH_BYTES,
    Operation,
    Patch,
    PatchError,
    State,
    apply_one,
    check_value,
    leaves,
    same,
)

ADMIN = "admin"
_RESERVED = "/metadata"


class TestFailed(PatchError):
    """A ``test`` operation found another value: the state is not what the sender thought."""

    __test__ = False  # not a test class, whatever its name says to pytest


def from_merge_patch(body: bytes, patch_id: str, state: State, *, source: str = ADMIN) -> Patch:
    """One ``merge`` of the object in ``body``. Metadata may be sent back as it was read, not changed. Raises PatchError."""
    value = _decoded(body)
    if not isinstance(value, dict):
        raise PatchError("a merge patch that is no object", "", "send the members to change; null removes one")
    check_value(value, "")
    if sum(1 for _ in leaves(value, "")) > MAX_OPERATIONS:
        raise PatchError(f"more than {MAX_OPERATIONS} values", "", "send several patches")
    if "metadata" in value:
        for pointer, leaf in leaves(value["metadata"], _RESERVED):
            known = ptr.get(state, pointer)
            if not (leaf is None and known is ptr.ABSENT) and (known is ptr.ABSENT or not same(leaf, known)):
                raise _reserved(pointer)
        value = {name: inner for name, inner in value.items() if name != "metadata"}
    return Patch(patch_id, source, (Operation("merge", "", value),) if value else ())


def from_json_patch(body: bytes, patch_id: str, state: State, *, source: str = ADMIN) -> Patch:
    """The operations of a JSON Patch as they work on ``state``. Raises PatchError; TestFailed where a test fails.

    Tests, moves and copies are worked out here. A change inside a list becomes one of the whole list, because indices mean
    nothing once another writer was there; only an addition at its end stays one.
    """
    value = _decoded(body)
    if not isinstance(value, list):
        raise PatchError("a JSON Patch that is no list", "", 'send [{"op": …, "path": …}, …]')
    if len(value) > MAX_OPERATIONS:
        raise PatchError(f"more than {MAX_OPERATIONS} operations", "", "send several patches")
    operations: list[Operation] = []
    for number, member in enumerate(value):
        for operation in _converted(member, f"operation {number}", state):
            state = apply_one(state, operation)
            operations.append(operation)
    return Patch(patch_id, source, tuple(operations))


def _decoded(body: bytes) -> Any:
    if len(body) > MAX_PATCH_BYTES:
        raise PatchError(f"a body of {len(body)} bytes", "", f"send at most {MAX_PATCH_BYTES}")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PatchError(f"a body that is no JSON ({error})", "", "send application/json") from error


def _converted(member: Any, where: str, state: State) -> list[Operation]:
    if not isinstance(member, dict):
        raise PatchError("no object", where, 'send {"op": …, "path": …}')
    op, path = member.get("op"), _path(member, "path", where)
    if op in ("add", "replace", "test") and "value" not in member:
        raise PatchError(f"{op} without a value", where, "add the member value")
    if op == "test":
        return _tested(ptr.get(state, path), member["value"], path, where)
    if op == "add":
        return [_added(state, path, member["value"], where)]
    if op == "replace":
        _present(state, path, where)
        return [_set(state, path, member["value"], where)]
    if op == "remove":
        return [_removed(state, path, where)]
    if op in ("move", "copy"):
        start = _path(member, "from", where)
        value = _present(state, start, where)
        if op == "copy":
            return [_added(state, path, value, where)]
        if path != start and ptr.covers(start, path):
            raise PatchError("a move into itself", where, "move it elsewhere")
        out = _removed(state, start, where)
        return [out, _added(apply_one(state, out), path, value, where)]
    raise PatchError(f"unknown op {op!r}", where, "use add, remove, replace, move, copy or test")


def _path(member: dict[str, Any], name: str, where: str) -> str:
    path = member.get(name)
    if not isinstance(path, str):
        raise PatchError(f"no {name}", where, f"add the member {name}, a JSON pointer")
    try:
        ptr.parse(path)
    except ValueError as error:
        raise PatchError(str(error), where, "correct the pointer") from error
    return path


def _tested(found: Any, wanted: Any, path: str, where: str) -> list[Operation]:
    if found is ptr.ABSENT or not same(found, wanted):
        raise TestFailed(f"the test of {path or 'the whole state'} failed", where, "read the state again")
    return []


def _present(state: State, path: str, where: str) -> Any:
    value = ptr.get(state, path)
    if value is ptr.ABSENT:
        raise PatchError(f"nothing at {path}", where, "read the state again, or use add")
    return value


def _writable(path: str, where: str) -> tuple[str, str]:
    """Parent pointer and last token of a place that may be written."""
    if ptr.covers(_RESERVED, path):
        raise _reserved(path)
    tokens = ptr.parse(path)
    if not tokens:
        raise PatchError("a change of the whole state", where, "name its members")
    return ptr.build(tokens[:-1]), tokens[-1]


def _added(state: State, path: str, value: Any, where: str) -> Operation:
    parent, token = _writable(path, where)
    container = _present(state, parent, where)
    if not isinstance(container, list):
        return Operation("set", path, value)
    if token in ("-", str(len(container))):
        return Operation("append", parent, [value])
    place = _element(container, token, where)
    return Operation("set", parent, [*container[:place], value, *container[place:]])


def _set(state: State, path: str, value: Any, where: str) -> Operation:
    parent, token = _writable(path, where)
    container = ptr.get(state, parent)
    if not isinstance(container, list):
        return Operation("set", path, value)
    place = _element(container, token, where)
    return Operation("set", parent, [*container[:place], value, *container[place + 1 :]])


def _removed(state: State, path: str, where: str) -> Operation:
    parent, token = _writable(path, where)
    _present(state, path, where)
    container = ptr.get(state, parent)
    if not isinstance(container, list):
        return Operation("remove", path)
    place = _element(container, token, where)
    return Operation("set", parent, [*container[:place], *container[place + 1 :]])


def _element(container: list[Any], token: str, where: str) -> int:
    place = ptr.index(token, len(container))
    if place is None:
        raise PatchError(f"no element {token} in a list of {len(container)}", where, "use - for its end")
    return place


def _reserved(pointer: str) -> PatchError:
    return PatchError("a change of the metadata", pointer, "leave it out: the sidecar itself writes it")
