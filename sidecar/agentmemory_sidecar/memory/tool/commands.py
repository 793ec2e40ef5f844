"""The memory tool's six commands. What they say is what the reference implementation in Anthropic's SDKs says, to the byte,
for that is what Claude knows; a directory counts as 4K, as on most file systems."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentmemory_sidecar.memory.tool.files import Changes, Files, parent
from agentmemory_sidecar.memory.tool.paths import ROOT, ToolError, resolve, shown

MAX_LINES = 999_999
_DIRECTORY_BYTES = 4_096
_WIDTH = 6
_MOST_PLACES = 100
"""Lines that are named where a text stands more than once."""


@dataclass(frozen=True, slots=True)
class Result:
    """What Claude is answered, and what becomes of the files."""

    text: str
    is_error: bool = False
    changes: Changes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    file_bytes: int
    """The most that one file may have (bytes of UTF-8)."""
    fits: Callable[[dict[str, Any]], bool]
    """Whether there is room for these files, all together."""


def command_of(given: Any) -> str:
    """The command's name; empty for one that is none."""
    name = given.get("command") if isinstance(given, Mapping) else None
    return name if isinstance(name, str) and name in _COMMANDS else ""


def reads(files: Files, given: Any) -> str:
    """Key of the blob that must be read before the command can run; empty for none."""
    if command_of(given) not in ("view", "str_replace", "insert"):
        return ""
    try:
        name = resolve(given.get("path"))
    except ToolError:
        return ""
    return files.link(name) if files.is_file(name) else ""


def run(files: Files, given: Any, limits: Limits) -> Result:
    """One command. Never raises; a command that fails changes nothing."""
    try:
        if not isinstance(given, Mapping):
            raise ToolError("The input is no object with a command")
        name = given.get("command")
        command = _COMMANDS.get(name) if isinstance(name, str) else None
        if command is None:
            raise ToolError(f"Unknown command: {shown(name)}")
        result = command(files, given)
        _check(files, result.changes, limits)
    except ToolError as error:
        return Result(str(error), is_error=True)
    return result


def _check(files: Files, changes: Changes, limits: Limits) -> None:
    for name, value in changes.items():
        if isinstance(value, str) and (size := len(value.encode())) > limits.file_bytes:
            raise ToolError(
                f"File {ROOT}/{name} would have {size} bytes; the limit for one file is {limits.file_bytes} bytes. "
                "Write less, or split it into several files."
            )
    if any(value is not None for value in changes.values()) and not limits.fits(files.after(changes)):
        raise ToolError(
            "The memory directory is full. Delete or shorten files that are no longer needed, then try again."
        )


def _view(files: Files, given: Mapping[str, Any]) -> Result:
    path, name = _path(given)
    if files.is_file(name):
        return Result(_numbered_file(files, name, path, given.get("view_range")))
    if not files.is_directory(name):
        raise ToolError(f"The path {path} does not exist. Please provide a valid path.")
    lines = [
        f"Here're the files and directories up to 2 levels deep in {path}, excluding hidden items:",
        f"{_size(_DIRECTORY_BYTES)}\t{path}",
    ]
    for inner, directory in files.tree(name, 2):
        size = _DIRECTORY_BYTES if directory else files.size(f"{name}/{inner}" if name else inner)
        lines.append(f"{_size(size)}\t{path}/{inner}{'/' if directory else ''}")
    return Result("\n".join(lines))


def _numbered_file(files: Files, name: str, path: str, view_range: Any) -> str:
    lines = files.text(name).split("\n")
    if len(lines) > MAX_LINES:
        raise ToolError(f"File {path} exceeds maximum line limit of 999,999 lines.")
    first = 0
    if isinstance(view_range, list) and len(view_range) == 2:
        if not all(type(number) is int for number in view_range):
            raise ToolError("Invalid `view_range` parameter: it should be two whole numbers")
        first = max(1, view_range[0]) - 1
        lines = lines[first : None if view_range[1] == -1 else view_range[1]]
    return f"Here's the content of {path} with line numbers:\n" + _numbered(lines, first)


def _create(files: Files, given: Mapping[str, Any]) -> Result:
    path, name = _path(given)
    text = _text(given, "file_text")
    if files.exists(name):
        raise ToolError(f"File {path} already exists")
    _needs_directory(files, name)
    return Result(f"File created successfully at: {path}", changes={name: text})


def _str_replace(files: Files, given: Mapping[str, Any]) -> Result:
    path, name = _path(given)
    old, new = _text(given, "old_str"), _text(given, "new_str", missing="")
    text = _file(files, name, path)
    count = text.count(old)
    if not count or not old:
        raise ToolError(f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}.")
    if count > 1:
        places = ", ".join(map(str, _lines_of(text, old)))
        raise ToolError(
            f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: {places}. "
            "Please ensure it is unique"
        )
    at = text[: text.find(old)].count("\n")
    text = text.replace(old, new)
    first = max(0, at - 2)
    snippet = _numbered(text.split("\n")[first : at + 3], first)
    said = "The memory file has been edited. Here is the snippet showing the change (with line numbers):\n" + snippet
    return Result(said, changes={name: text})


def _insert(files: Files, given: Mapping[str, Any]) -> Result:
    path, name = _path(given)
    line, added = given.get("insert_line"), _text(given, "insert_text")
    lines = _file(files, name, path).split("\n")
    if lines[-1] == "":
        lines.pop()
    if type(line) is not int or not 0 <= line <= len(lines):
        raise ToolError(
            f"Invalid `insert_line` parameter: {shown(line)}. It should be within the range [0, {len(lines)}]."
        )
    lines.insert(line, added.rstrip("\n"))
    text = "\n".join(lines)
    return Result(f"The file {path} has been edited.", changes={name: text if text.endswith("\n") else text + "\n"})


def _delete(files: Files, given: Mapping[str, Any]) -> Result:
    path, name = _path(given)
    if not name:
        raise ToolError("Cannot delete the /memories directory itself")
    if files.is_file(name):
        gone: Changes = {name: None}
    elif files.is_directory(name):
        gone = dict.fromkeys(files.inside(name))
    else:
        raise ToolError(f"The path {path} does not exist")
    return Result(f"Successfully deleted {path}", changes=_without(files, name, gone))


def _rename(files: Files, given: Mapping[str, Any]) -> Result:
    old, old_name = _path(given, "old_path")
    new, new_name = _path(given, "new_path")
    if not old_name:
        raise ToolError("Cannot rename the /memories directory itself")
    if files.exists(new_name):
        raise ToolError(f"The destination {new} already exists")
    if files.is_file(old_name):
        moved: Changes = {new_name: files.value(old_name)}
        gone: Changes = {old_name: None}
    elif files.is_directory(old_name):
        if new_name.startswith(old_name + "/"):
            raise ToolError(f"Cannot move {old} into itself, to {new}")
        inside = files.inside(old_name)
        moved = {new_name + name[len(old_name) :]: value for name, value in inside.items()}
        gone = dict.fromkeys(inside)
        for name in moved:
            resolve(f"{ROOT}/{name}")  # deeper or longer than before, perhaps
    else:
        raise ToolError(f"The path {old} does not exist")
    _needs_directory(files, new_name)
    left = gone if parent(new_name) == parent(old_name) else _without(files, old_name, gone)
    return Result(f"Successfully renamed {old} to {new}", changes=left | moved)


_COMMANDS: dict[str, Callable[[Files, Mapping[str, Any]], Result]] = {
    "view": _view, "create": _create, "str_replace": _str_replace, "insert": _insert, "delete": _delete,
    "rename": _rename,
}  # fmt: skip


def _path(given: Mapping[str, Any], member: str = "path") -> tuple[str, str]:
    """A path as it was given, and the name it means."""
    path = given.get(member)
    return str(path), resolve(path)


def _text(given: Mapping[str, Any], member: str, *, missing: str | None = None) -> str:
    value = given.get(member, missing)
    if not isinstance(value, str):
        raise ToolError(f"The parameter `{member}` must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ToolError(f"The parameter `{member}` has characters that are no valid text") from None
    return value


def _file(files: Files, name: str, path: str) -> str:
    if files.is_file(name):
        return files.text(name)
    if files.is_directory(name):
        raise ToolError(f"The path {path} is not a file.")
    raise ToolError(f"The path {path} does not exist. Please provide a valid path.")


def _needs_directory(files: Files, name: str) -> None:
    """What a file shall lie in must not be a file."""
    above = parent(name)
    while above:
        if files.is_file(above):
            raise ToolError(f"The path {ROOT}/{above} is not a directory")
        above = parent(above)


def _without(files: Files, name: str, gone: Changes) -> Changes:
    """The changes, with an entry for the directory that ``name`` lay in where nothing else is in it: it stays."""
    above = parent(name)
    if above and not files.inside(above).keys() - gone.keys():
        return gone | {above + "/": ""}
    return gone


def _lines_of(text: str, old: str) -> list[int]:
    """The lines in which a text stands, each place of it."""
    found: list[int] = []
    line, before = 1, 0
    at = text.find(old)
    while at != -1 and len(found) < _MOST_PLACES:
        line += text.count("\n", before, at)
        found.append(line)
        before, at = at, text.find(old, at + 1)
    return found


def _numbered(lines: list[str], before: int) -> str:
    """Lines with their numbers; ``before`` is how many stand before the first."""
    return "\n".join(f"{number:>{_WIDTH}}\t{line}" for number, line in enumerate(lines, before + 1))


def _size(size: int) -> str:
    """``0B``, ``17B``, ``1.5K``: as ``du -h`` has it."""
    units = "BKMG"
    unit = min(max(size.bit_length() - 1, 0) // 10, len(units) - 1)
    scaled = size / 1024**unit
    return f"{int(scaled) if scaled == int(scaled) else format(scaled, '.1f')}{units[unit]}"
