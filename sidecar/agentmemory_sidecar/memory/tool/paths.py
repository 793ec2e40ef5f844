"""Which paths the memory tool takes, and what they mean: nothing outside of ``/memories``, in whatever disguise.

There is no file system below, so nothing could be reached by a path that escapes; but it is refused and never guessed at,
as the tool's documentation demands, and so is a name that would fake lines of a listing.
"""

import unicodedata
from typing import Any
from urllib.parse import unquote

ROOT = "/memories"
LONGEST_NAME = 255
LONGEST_PATH = 1_024
"""Bytes of UTF-8, as file systems have it."""
DEEPEST = 32
_SHOWN = 200
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn what stands behind them round, so that a name reads as another."""


class ToolError(Exception):
    """What Claude is told instead of a result."""


def resolve(path: Any) -> str:
    """The name of what lies at a path: without ``/memories/``, empty for the directory itself. Raises ToolError."""
    if not isinstance(path, str) or not (path == ROOT or path.startswith(ROOT + "/")):
        raise ToolError(f"Path must start with /memories, got: {shown(path)}")
    if _escapes(path):
        raise ToolError(f"Path {shown(path)} would escape /memories directory")
    parts = [part for part in path.split("/")[2:] if part not in ("", ".")]
    name = "/".join(parts)
    if any(_forbidden(character) for character in name):
        raise ToolError("The path has control characters or other characters that no file name can have")
    if len(parts) > DEEPEST:
        raise ToolError(f"Path {shown(path)} has more than {DEEPEST} levels")
    if len(name.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in parts):
        raise ToolError(
            f"Path {shown(path)} is too long: at most {LONGEST_PATH} bytes, and {LONGEST_NAME} for each name in it"
        )
    return name


def shown(value: Any) -> str:
    """A path as an error may quote it."""
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _escapes(path: str) -> bool:
    """Whether it goes up anywhere, written plainly or percent-encoded, however often."""
    for _ in range(4):
        if ".." in path.replace("\\", "/").split("/"):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def _forbidden(character: str) -> bool:
    return character == "\\" or character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
