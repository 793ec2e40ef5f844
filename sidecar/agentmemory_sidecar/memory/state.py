"""The state object: what the agent knows apart from what was said, and the patches that change it.

A state is plain JSON (``dict``). Everything here is pure: a change gives a new state that shares what did not change with
the old one. Members that this version does not know are kept as they are.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.resource.state_schema import REFERENCE, beginning

State = dict[str, Any]

SCHEMA_VERSION = REFERENCE
MAX_DEPTH = 32
"""How deep objects and lists may lie in each other, and how many tokens a pointer may have."""
MAX_OPERATIONS = 1_000
"""Operations in one patch."""
MAX_PATCH_BYTES = 1_000_000
"""JSON bytes of one patch."""


class StateError(Exception):
    """Stored bytes that are no state object."""


class PatchError(Exception):
    """A patch that cannot be taken. The text says what is wrong, where, and what to do."""

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(f"{what}, at {where or 'the top'}: {fix}")
        self.what, self.where, self.fix = what, where, fix


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change. Missing objects on the way to ``pointer`` are made.

    - ``set``: the value there becomes ``value``; in a list only an element that exists.
    - ``remove``: the member goes, if it is there. Elements of lists do not: set the list.
    - ``append``: ``value`` is a list, its elements go behind those of the list there.
    - ``merge``: ``value`` is a JSON Merge Patch (RFC 7396) for what is there.
    - ``union``: ``value`` is ``{"add": […], "drop": […]}``: elements that the list there shall have, and shall not.
    """

    op: Literal["set", "remove", "append", "merge", "union"]
    pointer: str
    value: Any = None


class Patch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Changes that belong together, in order."""

    id: str
    """The step's or the administrator's; unique within its source."""
    source: str = ""
    """Who made it: ``rules``, ``admin``, ``extraction``, …"""
    operations: tuple[Operation, ...] = ()

    @staticmethod
    def none(patch_id: str) -> "Patch":
        """A patch that changes nothing."""
        return Patch(patch_id)


def empty(user_id: str = "", version: str = SCHEMA_VERSION) -> State:
    """A state of the reference's form that knows nothing yet."""
    return beginning(user_id, version, None)


def from_json(data: bytes, *, region: str = "") -> State:
    """Read a stored state; empty bytes are one that was never written, and give ``{}``.

    ``region`` is put into the metadata, where it is never stored: it says where the state is read. Raises StateError.
    """
    if not data:
        return {}
    try:
        state = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StateError(f"the stored state is no JSON: {error}") from error
    if not isinstance(state, dict):
        raise StateError(f"the stored state is {_kind(state)}, not an object")
    if region:
        metadata = state.get("metadata")
        known = metadata if isinstance(metadata, dict) else {"v": SCHEMA_VERSION}
        state["metadata"] = {**known, "region": region}
    return state


def to_json(state: State) -> bytes:
    """The state as it is stored: without the region it was read in, so that all regions hold the same bytes."""
    metadata = state.get("metadata")
    if isinstance(metadata, dict) and "region" in metadata:
        state = {**state, "metadata": {key: value for key, value in metadata.items() if key != "region"}}
    return msgspec.json.encode(state)


def encode_patch(patch: Patch) -> bytes:
    """The patch as JSON."""
    return msgspec.json.encode(patch)


def decode_patch(data: bytes) -> Patch:
    """Read what ``encode_patch`` wrote. Raises PatchError."""
    try:
        return msgspec.json.decode(data, type=Patch)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PatchError(f"no patch ({error})", "", "send what encode_patch writes") from error


def apply(state: State, patch: Patch) -> State:
    """The state after all of the patch; the old one is not changed. Raises PatchError, and then nothing is applied."""
    for operation in patch.operations:
        state = apply_one(state, operation)
    return state


def apply_one(state: State, operation: Operation) -> State:
    """The state after one operation. Raises PatchError."""
    check_value(operation.value, operation.pointer)
    tokens = _tokens(operation.pointer)
    if not tokens:
        if operation.op != "merge" or not isinstance(operation.value, dict):
            raise PatchError(f"{operation.op} of the whole state", "", "name the members, or merge an object")
        return dict(_merged(state, operation.value))
    changed: State = _change(state, tokens, 0, operation)
    return changed


def lay_over(state: State, patches: Iterable[bytes]) -> State:
    """The state with patches laid over it that wait for their commit; operations that no longer fit are left out."""
    for data in patches:
        for operation in decode_patch(data).operations:
            try:
                state = apply_one(state, operation)
            except PatchError:
                continue
    return state


def touched(patch: Patch) -> set[str]:
    """The pointers that a patch writes. A merge touches its leaves; an append touches ``…/-``, the list's end."""
    return {pointer for operation in patch.operations for pointer in touches(operation)}


def touches(operation: Operation) -> list[str]:
    """The pointers that one operation writes."""
    if operation.op == "append":
        return [operation.pointer + "/-"]
    if operation.op == "merge":
        return [_plain(pointer) for pointer, _ in leaves(operation.value, operation.pointer)]
    return [_plain(operation.pointer)]


def conflicts(ours: Iterable[str], theirs: Iterable[str]) -> set[str]:
    """Those of ``ours`` that overlap any of ``theirs``: equal, or one lies in the other."""
    others = list(theirs)
    return {pointer for pointer in ours if any(ptr.overlap(pointer, other) for other in others)}


def diff(old: Any, new: Any, pointer: str = "") -> list[Operation]:
    """Operations that make ``new`` of ``old``: small ones, but not the fewest. A list that only grew is appended to."""
    if isinstance(old, dict) and isinstance(new, dict):
        operations = [Operation("remove", ptr.join(pointer, name)) for name in old if name not in new]
        for name, value in new.items():
            place = ptr.join(pointer, name)
            if name in old:
                operations += diff(old[name], value, place)
            else:
                operations.append(Operation("set", place, value))
        return operations
    if same(old, new):
        return []
    if isinstance(old, list) and isinstance(new, list):
        if len(new) > len(old) and same(old, new[: len(old)]):
            return [Operation("append", pointer, new[len(old) :])]
        if len(new) == len(old):
            pairs = zip(old, new, strict=True)
            return [part for at, (a, b) in enumerate(pairs) for part in diff(a, b, ptr.join(pointer, at))]
    return [Operation("set", pointer, new)]


def same(a: Any, b: Any) -> bool:
    """Equal as JSON: unlike in Python, true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(value, b[name]) for name, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def among(value: Any, values: Iterable[Any]) -> bool:
    """Whether a value is equal, as JSON, to one of these."""
    return any(same(value, other) for other in values)


def leaves(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a merge patch with their pointers; an empty object is a leaf."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, ptr.join(pointer, name))
    else:
        yield pointer, value


def check_value(value: Any, where: str, depth: int = 0) -> None:
    """Raises PatchError for what JSON or the limits do not allow."""
    if depth > MAX_DEPTH:
        raise PatchError(f"deeper than {MAX_DEPTH} levels", where, "make it flatter, or keep it as text")
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise PatchError("a member name that is no string", where, "quote it")
            check_value(inner, where, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check_value(inner, where, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PatchError("a number that JSON cannot hold", where, "send a finite number or text")
    elif value is not None and not isinstance(value, str | int):
        raise PatchError(f"a value of type {type(value).__name__}", where, "send JSON")


def _tokens(pointer: str) -> tuple[str, ...]:
    try:
        tokens = ptr.parse(pointer)
    except ValueError as error:
        raise PatchError(str(error), pointer, "correct the pointer") from error
    if len(tokens) > MAX_DEPTH:
        raise PatchError(f"a pointer of more than {MAX_DEPTH} tokens", pointer[:80] + "…", "make the state flatter")
    return tokens


def _plain(pointer: str) -> str:
    """A member that happens to be named ``-`` is not a list's end: then its object is what is touched."""
    return pointer[:-2] if pointer.endswith("/-") else pointer


def _change(node: Any, tokens: tuple[str, ...], at: int, operation: Operation) -> Any:
    if at == len(tokens):
        return _changed_value(node, operation)
    here, token = ptr.build(tokens[:at]), tokens[at]
    if node is None or node is ptr.ABSENT:
        return node if operation.op == "remove" else {token: _change(ptr.ABSENT, tokens, at + 1, operation)}
    if isinstance(node, list):
        place = ptr.index(token, len(node))
        if place is None:
            raise PatchError(
                f"no element {token} in a list of {len(node)}", here, "append to the list, or set all of it"
            )
        if operation.op == "remove" and at == len(tokens) - 1:
            raise PatchError("an element taken out of a list", here, "set the list without it")
        return [*node[:place], _change(node[place], tokens, at + 1, operation), *node[place + 1 :]]
    if not isinstance(node, dict):
        raise PatchError(f"{_kind(node)} where an object is needed for {token!r}", here, "set an object there first")
    if operation.op == "remove":
        if token not in node:
            return node
        if at == len(tokens) - 1:
            return {name: value for name, value in node.items() if name != token}
    return {**node, token: _change(node.get(token, ptr.ABSENT), tokens, at + 1, operation)}


def _changed_value(node: Any, operation: Operation) -> Any:
    if operation.op == "set":
        return operation.value
    if operation.op == "merge":
        return _merged(node, operation.value)
    if operation.op == "union":
        return _united(node, operation)
    if not isinstance(operation.value, list):
        raise PatchError(f"append of {_kind(operation.value)}", operation.pointer, "send a list of elements")
    if node is None or node is ptr.ABSENT:
        return list(operation.value)
    if not isinstance(node, list):
        raise PatchError(f"append to {_kind(node)}", operation.pointer, "set a list there first")
    return [*node, *operation.value]


def _united(node: Any, operation: Operation) -> list[Any]:
    if node is not None and node is not ptr.ABSENT and not isinstance(node, list):
        raise PatchError(f"union with {_kind(node)}", operation.pointer, "set a list there first")
    there = node if isinstance(node, list) else []
    add, drop = operation.value["add"], operation.value["drop"]
    left = [value for value in there if not among(value, drop)]
    return left + [value for value in add if not among(value, left)]


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
