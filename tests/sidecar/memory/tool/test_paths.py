"""Which paths the memory tool takes."""

import pytest

from agentmemory_sidecar.memory.tool.paths import ToolError, resolve


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/memories", ""),
        ("/memories/", ""),
        ("/memories/a.md", "a.md"),
        ("/memories//a/./b.md/", "a/b.md"),
        ("/memories/..hidden", "..hidden"),
        ("/memories/100%.md", "100%.md"),
        ("/memories/ключ и 鍵.md", "ключ и 鍵.md"),
        ("/memories/.secret", ".secret"),
    ],
)
def test_names(path: str, name: str) -> None:
    assert resolve(path) == name


@pytest.mark.parametrize(
    "path",
    ["", "notes.md", "/etc/passwd", "memories/a", "/memoriesx", "/Memories/a", " /memories/a", None, 7, ["/memories"]],
)
def test_other_places(path: object) -> None:
    with pytest.raises(ToolError, match=r"^Path must start with /memories, got: "):
        resolve(path)


@pytest.mark.parametrize(
    "path",
    [
        "/memories/../etc/passwd",
        "/memories/a/../b",
        "/memories/..",
        "/memories/a/..\\b",
        "/memories/..\\..\\etc",
        "/memories/%2e%2e%2fetc",
        "/memories/%2E%2E/etc",
        "/memories/.%2e/etc",
        "/memories/%252e%252e%252fetc",
        "/memories/a%5c..%5cb",
    ],
)
def test_ways_out(path: str) -> None:
    with pytest.raises(ToolError, match=r"would escape /memories directory$"):
        resolve(path)


def test_what_the_reference_says_of_a_way_out() -> None:
    with pytest.raises(ToolError) as told:
        resolve("/memories/../x")
    assert str(told.value) == "Path /memories/../x would escape /memories directory"


@pytest.mark.parametrize(
    "character", ["\0", "\n", "\t", "\r", "\x7f", "\u0085", "\u2028", "\u202e", "\u2066", "\\", "\ud800"]
)
def test_poisoned_names(character: str) -> None:
    with pytest.raises(ToolError, match="characters that no file name can have"):
        resolve(f"/memories/a{character}b")


def test_limits() -> None:
    resolve("/memories/" + "x" * 255)
    with pytest.raises(ToolError, match="is too long"):
        resolve("/memories/" + "x" * 256)
    with pytest.raises(ToolError, match="is too long"):
        resolve("/memories/" + "ü" * 128)
    with pytest.raises(ToolError, match="is too long"):
        resolve("/memories/" + "/".join(["x" * 200] * 6))
    with pytest.raises(ToolError, match="more than 32 levels"):
        resolve("/memories" + "/a" * 33)
