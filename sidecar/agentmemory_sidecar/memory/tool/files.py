"""The files of a memory directory: one object from names to texts, which is how the state holds them.

A name is a path below ``/memories`` without its first slash. A directory is there when a name lies in it, or when it has an
entry of its own, whose name ends with a slash: that is left where the last file of a directory goes.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from agentmemory_sidecar.memory.links import LINK, is_link
from agentmemory_sidecar.memory.tool import MEMBER
from agentmemory_sidecar.memory.tool.paths import ROOT, ToolError, resolve

Changes = dict[str, Any]
"""What becomes of names: a text (or its link), or None where it goes."""


@lru_cache(maxsize=4_096)
def is_name(name: str) -> bool:
    """Whether a name is one that a path can mean. Other writers of the state may have left anything."""
    try:
        return bool(name) and resolve(f"{ROOT}/{name}") == name.removesuffix("/")
    except ToolError:
        return False


def is_text(value: Any) -> bool:
    """Whether a value is a file's: its text, or the link to it."""
    return isinstance(value, str) or is_link(value)


class Files:
    """The files as a command finds them. ``texts`` holds those that lie behind links, as far as they were read."""

    def __init__(self, state: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> None:
        found = state.get(MEMBER)
        entries = found.items() if isinstance(found, Mapping) else ()
        self._entries = {name: value for name, value in entries if is_name(name) and is_text(value)}
        self._texts = {} if texts is None else texts

    def after(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The whole object with these changes."""
        return {name: value for name, value in {**self._entries, **changes}.items() if value is not None}

    def is_file(self, name: str) -> bool:
        return bool(name) and not name.endswith("/") and name in self._entries

    def is_directory(self, name: str) -> bool:
        return not name or any(other.startswith(name + "/") for other in self._entries)

    def exists(self, name: str) -> bool:
        return self.is_file(name) or self.is_directory(name)

    def link(self, name: str) -> str:
        """Key of the blob that holds a file's text; empty where the text is here."""
        value = self._entries[name]
        key = "" if isinstance(value, str) else str(value[LINK].get("key", ""))
        return "" if key in self._texts else key

    def text(self, name: str) -> str:
        value = self._entries[name]
        return value if isinstance(value, str) else self._texts[str(value[LINK].get("key", ""))]

    def size(self, name: str) -> int:
        """Bytes of a file."""
        value = self._entries[name]
        return len(value.encode()) if isinstance(value, str) else int(value[LINK].get("size") or 0)

    def inside(self, name: str) -> dict[str, Any]:
        """Everything that lies in a directory, its own entry as well."""
        prefix = f"{name}/" if name else ""
        return {other: value for other, value in self._entries.items() if other.startswith(prefix)}

    def value(self, name: str) -> Any:
        return self._entries[name]

    def tree(self, name: str, depth: int) -> Iterator[tuple[str, bool]]:
        """What lies in a directory down to ``depth`` levels, hidden items left out: (path within it, is a directory)."""
        files: set[str] = set()
        directories: set[str] = set()
        for other in self.inside(name):
            first, slash, _ = other[len(name) + 1 if name else 0 :].partition("/")
            if first and not first.startswith("."):
                (directories if slash else files).add(first)
        for first in sorted(files | directories):
            if first in files:
                yield first, False
            if first in directories:
                yield first, True
                if depth > 1:
                    inner = self.tree(f"{name}/{first}" if name else first, depth - 1)
                    yield from ((f"{first}/{path}", directory) for path, directory in inner)


def parent(name: str) -> str:
    return name.rpartition("/")[0]
