"""The commands say and do what the reference implementation in Anthropic's SDK says and does, to the byte."""

import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.lib.tools import ToolError
from anthropic.tools.memory import BetaLocalFilesystemMemoryTool

from agentmemory_sidecar.memory.tool.commands import Limits, Result, reads, run
from agentmemory_sidecar.memory.tool.files import Files

ROOMY = Limits(1_000_000, lambda _: True)
Given = dict[str, Any]


class Directory:
    """A memory directory as the state holds it."""

    def __init__(self, entries: Given | None = None, limits: Limits = ROOMY) -> None:
        self.entries = dict(entries or {})
        self.limits = limits

    def run(self, command: Any, **given: Any) -> Result:
        files = Files({"memories": self.entries})
        result = run(files, {"command": command, **given}, self.limits)
        assert not (result.is_error and result.changes)
        self.entries = files.after(result.changes)
        return result

    def fails(self, command: Any, **given: Any) -> str:
        before = dict(self.entries)
        result = self.run(command, **given)
        assert result.is_error
        assert self.entries == before
        return result.text

    def says(self, command: str, **given: Any) -> str:
        result = self.run(command, **given)
        assert not result.is_error, result.text
        return result.text


class Reference:
    """The SDK's own tool on a folder. The size of a directory is the file system's business: 4K here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tool = BetaLocalFilesystemMemoryTool(str(folder))

    def run(self, command: str, **given: Any) -> Result:
        try:
            said = str(self._tool.call({"command": command, **given}))
        except ToolError as error:
            return Result(str(error.content), is_error=True)
        if command == "view" and said.startswith("Here're"):
            head, root, *lines = said.split("\n")
            lines = [_sized(line) if line.endswith("/") else line for line in lines]
            said = "\n".join([head, _sized(root), *lines])
        return Result(said)

    def files(self) -> dict[str, str]:
        root = self._folder / "memories"
        return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def _sized(line: str) -> str:
    return "4K\t" + line.partition("\t")[2]


NAMES = ("a.md", "b.md", "c", "d", ".hidden", "e e.txt")


def a_path(dice: random.Random) -> str:
    parts = [dice.choice(NAMES) for _ in range(dice.choice((1, 1, 1, 2, 2, 3)))]
    return dice.choice(("/memories/", "/memories/", "/memories//")) + "/".join(parts) + dice.choice(("", "", "", "/"))


def a_text(dice: random.Random) -> str:
    lines = ["".join(dice.choices("ab ü", k=dice.randrange(6))) for _ in range(dice.randrange(8))]
    return dice.choice(("\n", "\n", "\r\n")).join(lines) + dice.choice(("", "\n", "\n\n"))


def a_command(dice: random.Random, known: list[str]) -> Given:
    def path() -> str:
        return "/memories/" + dice.choice(known) if known and dice.random() < 0.6 else a_path(dice)

    match dice.choice(("view", "view", "create", "create", "str_replace", "insert", "delete", "rename")):
        case "view":
            given = {"command": "view", "path": dice.choice(("/memories", "/memories/", path()))}
            wide = dice.choice(([1, 3], [2, -1], [0, 1], [3, 2], [5, 100], [2, -2], None))
            return given | ({"view_range": wide} if wide else {})
        case "create":
            return {"command": "create", "path": a_path(dice), "file_text": a_text(dice)}
        case "str_replace":
            old = dice.choice(("a", "b", "ab", "ba", "\n", "ü", "aba", "zz"))
            return {"command": "str_replace", "path": path(), "old_str": old, "new_str": a_text(dice)}
        case "insert":
            line = dice.randrange(-1, 9)
            return {"command": "insert", "path": path(), "insert_line": line, "insert_text": a_text(dice)}
        case "delete":
            return {"command": "delete", "path": dice.choice((path(), path(), "/memories"))}
    return {"command": "rename", "old_path": path(), "new_path": a_path(dice)}


def outside_the_reference(mine: Directory, given: Given) -> bool:
    """Where the reference fails with an error of its file system, or makes folders for what then fails."""
    files = Files({"memories": mine.entries})
    for member in ("path", "new_path"):
        parts = [part for part in str(given.get(member, "")).split("/")[2:] if part]
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        if any(files.is_file(name) for name in above):
            return True
        if member == "new_path" and parts:
            old = "/".join(part for part in given["old_path"].split("/")[2:] if part)
            if not files.exists(old) or "/".join(parts).startswith(old + "/"):
                return True
    return False


@pytest.mark.parametrize("seed", range(12))
def test_same_as_the_reference(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    mine, reference = Directory(), Reference(tmp_path)
    done = 0
    for _ in range(250):
        given = a_command(dice, [name.rstrip("/") for name in mine.entries])
        if outside_the_reference(mine, given):
            continue
        done += 1
        theirs = reference.run(**given)
        ours = mine.run(**given)
        assert (ours.text, ours.is_error) == (theirs.text, theirs.is_error), given
    texts = {name: text for name, text in mine.entries.items() if not name.endswith("/")}
    # Python reads \r\n as \n here; what the tool itself says of such lines was compared above.
    assert {name: text.replace("\r\n", "\n") for name, text in texts.items()} == reference.files()
    assert done > 100


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 1536, 10_240, 1_048_575, 1_048_576, 1_500_000])
def test_sizes_are_written_as_the_reference_writes_them(size: int, tmp_path: Path) -> None:
    mine, reference = Directory(limits=Limits(2_000_000, lambda _: True)), Reference(tmp_path)
    for each in (mine, reference):
        each.run("create", path="/memories/a", file_text="x" * size)
    assert mine.says("view", path="/memories") == reference.run("view", path="/memories").text


def test_documented_strings() -> None:
    it = Directory()
    assert it.says("view", path="/memories") == (
        "Here're the files and directories up to 2 levels deep in /memories, excluding hidden items:\n4K\t/memories"
    )
    assert (
        it.says("create", path="/memories/a.md", file_text="one\ntwo\n")
        == "File created successfully at: /memories/a.md"
    )
    assert it.fails("create", path="/memories/a.md", file_text="x") == "File /memories/a.md already exists"
    assert it.says("view", path="/memories/a.md") == (
        "Here's the content of /memories/a.md with line numbers:\n     1\tone\n     2\ttwo\n     3\t"
    )
    assert it.says("str_replace", path="/memories/a.md", old_str="two", new_str="2") == (
        "The memory file has been edited. Here is the snippet showing the change (with line numbers):\n"
        "     1\tone\n     2\t2\n     3\t"
    )
    assert it.fails("str_replace", path="/memories/a.md", old_str="two", new_str="2") == (
        "No replacement was performed, old_str `two` did not appear verbatim in /memories/a.md."
    )
    assert it.says("insert", path="/memories/a.md", insert_line=0, insert_text="one") == (
        "The file /memories/a.md has been edited."
    )
    assert it.fails("str_replace", path="/memories/a.md", old_str="one", new_str="1") == (
        "No replacement was performed. Multiple occurrences of old_str `one` in lines: 1, 2. Please ensure it is unique"
    )
    assert it.fails("insert", path="/memories/a.md", insert_line=4, insert_text="x") == (
        "Invalid `insert_line` parameter: 4. It should be within the range [0, 3]."
    )
    assert it.says("rename", old_path="/memories/a.md", new_path="/memories/d/b.md") == (
        "Successfully renamed /memories/a.md to /memories/d/b.md"
    )
    assert it.fails("view", path="/memories/a.md") == (
        "The path /memories/a.md does not exist. Please provide a valid path."
    )
    assert it.fails("delete", path="/memories/a.md") == "The path /memories/a.md does not exist"
    assert it.says("delete", path="/memories/d/b.md") == "Successfully deleted /memories/d/b.md"
    assert it.says("view", path="/memories").endswith(":\n4K\t/memories\n4K\t/memories/d/")
    assert it.fails("delete", path="/memories") == "Cannot delete the /memories directory itself"
    assert it.fails("rename", old_path="/memories", new_path="/memories/x") == (
        "Cannot rename the /memories directory itself"
    )


def test_directory_moves_with_all_in_it_and_never_into_itself() -> None:
    it = Directory({"a/b/c.md": "c", "a/d.md": "d", "a/e/": "", "ab.md": "other"})
    assert "into itself" in it.fails("rename", old_path="/memories/a", new_path="/memories/a/b/a")
    it.says("rename", old_path="/memories/a", new_path="/memories/z")
    assert it.entries == {"z/b/c.md": "c", "z/d.md": "d", "z/e/": "", "ab.md": "other"}
    it.says("delete", path="/memories/z")
    assert it.entries == {"ab.md": "other"}


def test_file_is_no_directory() -> None:
    it = Directory({"a": "text"})
    assert it.fails("create", path="/memories/a/b", file_text="x") == "The path /memories/a is not a directory"
    assert "is not a directory" in Directory({"a": "", "b": ""}).fails(
        "rename", old_path="/memories/b", new_path="/memories/a/b"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"command": "chmod", "path": "/memories"}, "Unknown command: chmod"),
        ({"command": None}, "Unknown command: None"),
        ({"command": ["view"]}, "Unknown command"),
        ({"command": "view"}, "Path must start with /memories"),
        ({"command": "create", "path": "/memories/b"}, "`file_text` must be text"),
        ({"command": "create", "path": "/memories/b", "file_text": "\ud800"}, "no valid text"),
        ({"command": "view", "path": "/memories/a", "view_range": ["1", "2"]}, "Invalid `view_range`"),
        (
            {"command": "insert", "path": "/memories/a", "insert_line": True, "insert_text": "x"},
            "Invalid `insert_line`",
        ),
        ({"command": "insert", "path": "/memories/a", "insert_line": "0", "insert_text": "x"}, "Invalid `insert_line`"),
        ({"command": "str_replace", "path": "/memories/a", "old_str": "", "new_str": "x"}, "did not appear verbatim"),
        ({"command": "view", "path": "/memories/../x"}, "would escape /memories directory"),
        ({"command": "rename", "old_path": "/memories/a", "new_path": "/etc/a"}, "Path must start with /memories"),
    ],
)
def test_bad_input_is_told_and_changes_nothing(given: Given, said: str) -> None:
    assert said in Directory({"a": "text"}).fails(**given)


@pytest.mark.parametrize("given", ["view", None, [], 3])
def test_input_that_is_no_object(given: object) -> None:
    assert run(Files({}), given, ROOMY).is_error


def test_limits() -> None:
    it = Directory(limits=Limits(10, lambda files: len(files) <= 2))
    assert "the limit for one file is 10 bytes" in it.fails("create", path="/memories/a", file_text="ü" * 6)
    it.says("create", path="/memories/a", file_text="0123456789")
    assert "the limit for one file" in it.fails("insert", path="/memories/a", insert_line=0, insert_text="x")
    it.says("create", path="/memories/b", file_text="")
    assert "is full" in it.fails("create", path="/memories/c", file_text="")
    it.says("delete", path="/memories/a")


def test_many_places_are_not_all_named() -> None:
    it = Directory({"a": "a\n" * 50_000})
    assert len(it.fails("str_replace", path="/memories/a", old_str="a", new_str="b")) < 1_000


def test_too_many_lines() -> None:
    it = Directory({"a": "\n" * 999_999})
    assert it.fails("view", path="/memories/a") == "File /memories/a exceeds maximum line limit of 999,999 lines."


def test_what_others_left_in_the_state_is_not_taken_for_files() -> None:
    it = Directory({"a": {"b": 1}, "c": 7, "d": None, "e": "text", "": "x", "/": "x", "../up": "x",
                    "a//b": "x", "fake\n1K\t/memories/root": "x", "./x": "x"})  # fmt: skip
    assert it.says("view", path="/memories").endswith("\n4K\t/memories\n4B\t/memories/e")
    for state in ({"memories": ["a"]}, {"memories": "text"}, {}):
        assert Files(state).is_directory("")
        assert not list(Files(state).tree("", 2))


def test_text_behind_a_link_is_asked_for_only_where_it_is_needed() -> None:
    link = {"$blob": {"key": "k", "size": 20_000, "type": "text/plain", "summary": "be"}}
    files = Files({"memories": {"long.md": link}})
    for command, key in (("view", "k"), ("insert", "k"), ("str_replace", "k"), ("rename", ""), ("delete", "")):
        assert reads(files, {"command": command, "path": "/memories/long.md"}) == key
    assert reads(files, {"command": "view", "path": "/memories"}) == ""
    assert "19.5K\t/memories/long.md" in run(files, {"command": "view", "path": "/memories"}, ROOMY).text
    read = Files({"memories": {"long.md": link}}, {"k": "here"})
    assert reads(read, {"command": "view", "path": "/memories/long.md"}) == ""
    assert run(read, {"command": "view", "path": "/memories/long.md"}, ROOMY).text.endswith("     1\there")
    moved = run(files, {"command": "rename", "old_path": "/memories/long.md", "new_path": "/memories/x"}, ROOMY)
    assert moved.changes == {"long.md": None, "x": link}


def test_nothing_raises() -> None:
    dice = random.Random(7)
    pool = [None, True, -3, 0, 5, "", "/memories", "/memories/a", "\ud800", [], {}, [1, 2], 1.5, *string.punctuation]
    for given in _nonsense(dice, pool):
        result = run(Files({"memories": {"a": "text", "b/c": "more"}}), given, ROOMY)
        assert isinstance(result.text, str)


def _nonsense(dice: random.Random, pool: list[Any]) -> Iterator[Given]:
    commands = ["view", "create", "str_replace", "insert", "delete", "rename", *pool]
    members = [
        "path",
        "view_range",
        "file_text",
        "old_str",
        "new_str",
        "insert_line",
        "insert_text",
        "old_path",
        "new_path",
    ]
    for _ in range(3_000):
        yield {"command": dice.choice(commands)} | {name: dice.choice(pool) for name in dice.sample(members, 5)}
