"""Edits of raw JSON, recorded as a JSON Patch (RFC 6902) while they are made."""

import copy
from typing import Any

Step = str | int


def pointer(path: tuple[Step, ...]) -> str:
    """A path as a JSON pointer."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


class Edits:
    """A pod that is being edited, and the operations so far. The pod given is left as it is."""

    def __init__(self, pod: dict[str, Any]) -> None:
        self.pod = copy.deepcopy(pod)
        self.operations: list[dict[str, Any]] = []

    def add(self, path: tuple[Step, ...], value: Any) -> None:
        """Set a member that is not there, or insert into a list before an index (its length: at the end)."""
        where = self._at(path[:-1])
        if isinstance(where, list):
            assert isinstance(path[-1], int)
            where.insert(path[-1], copy.deepcopy(value))
        else:
            where[path[-1]] = copy.deepcopy(value)
        self._record("add", path, value)

    def replace(self, path: tuple[Step, ...], value: Any) -> None:
        """Replace a member that is there."""
        self._at(path[:-1])[path[-1]] = copy.deepcopy(value)
        self._record("replace", path, value)

    def extend(self, path: tuple[Step, ...], values: list[Any], *, front: bool = False) -> None:
        """Put values at the end (or the front) of a list, which is made if it is not there or null."""
        if not values:
            return
        *parents, last = path
        there = self._at(tuple(parents)).get(last)
        if there is None:
            self.add(path, values)
            return
        start = 0 if front else len(there)
        for offset, value in enumerate(values):
            self.add((*path, start + offset), value)

    def _at(self, path: tuple[Step, ...]) -> Any:
        where: Any = self.pod
        for step in path:
            where = where[step]
        return where

    def _record(self, operation: str, path: tuple[Step, ...], value: Any) -> None:
        self.operations.append({"op": operation, "path": pointer(path), "value": copy.deepcopy(value)})
