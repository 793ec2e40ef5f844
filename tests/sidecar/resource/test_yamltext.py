import pytest

from agentmemory_sidecar.resource.errors import ResourceError
from agentmemory_sidecar.resource.yamltext import documents, dotted


def test_documents_know_their_lines() -> None:
    first, second = documents("a: 1\nb:\n  - x\n  - {c: y}\n---\n---\nd: 2\n", "f")
    assert first.data == {"a": 1, "b": ["x", {"c": "y"}]}
    assert first.lines[("b", 1, "c")] == 4
    assert first.message(("b", 1, "c"), "is wrong") == "f:4: b[1].c: is wrong"
    assert first.message(("b", 1, "nothing", 5), "is missing") == "f:4: b[1].nothing[5]: is missing"
    assert second.data == {"d": 2}
    assert second.message((), "is wrong") == "f:7: is wrong"


def test_dates_are_text() -> None:
    assert documents('{v: 2024-01-01, w: "2.1", x: 2.1}', "f")[0].data == {"v": "2024-01-01", "w": "2.1", "x": 2.1}


def test_an_alias_is_followed() -> None:
    (document,) = documents("a: &x {b: 1}\nc: *x\n", "f")
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_path_as_people_write_it() -> None:
    assert dotted(("spec", "rules", 0, "to")) == "spec.rules[0].to"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3: a: is there twice: remove one of the two"),
        ("on: Call\n", "f:1: on: YAML takes this name for no text: put it in quotes"),
        ("1: x\n", "f:1: 1: YAML takes this name for no text: put it in quotes"),
        ("? [a]\n: b\n", "f:1: a field's name must be plain text"),
        ("a: !!python/object:os.system x\n", "f:1: a: tags (words after !) have no place in a resource"),
        ("a: !secret hunter2\n", "f:1: a: tags (words after !) have no place in a resource"),
        ("a: !!int hunter2\n", "f:1: a: its value does not fit its tag: put it in quotes"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "f:2: c: merge keys (<<) have no place in a resource: write the fields out"),
        ("a: *hunter2\n", "f:1: is not valid YAML: a value that begins with * or & must be in quotes"),
        ("a: [1\nb: 2\n", "f:2: is not valid YAML: expected ',' or ']'"),
        ("a: 'hunter2\n", "is not valid YAML: found unexpected end of stream"),
        ("a:\n\t- x\n", "f:2: is not valid YAML: found character '\\t' that cannot start any token"),
        ("a: x\x00y\n", "f: is not valid YAML: it holds characters that YAML does not allow"),
        ("a: &a [*a]\n", "f:"),
        (BOMB, "f: holds more than 100000 values once its aliases are followed"),
        ("[" * 800, "f: is nested too deeply for a resource"),
    ],
)
def test_treacherous_yaml_is_refused_without_quoting_a_value(text: str, message: str) -> None:
    with pytest.raises(ResourceError) as caught:
        documents(text, "f")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
