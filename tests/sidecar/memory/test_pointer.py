import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.memory import pointer as ptr


@given(st.lists(st.text(max_size=5), max_size=4))
def test_parse_undoes_build(tokens):
    assert ptr.parse(ptr.build(tokens)) == tuple(tokens)


@pytest.mark.parametrize("bad", ["a", "a/b", "/~", "/~2", "/a~"])
def test_a_bad_pointer_is_named(bad):
    with pytest.raises(ValueError, match="is no JSON pointer"):
        ptr.parse(bad)


def test_get_reads_objects_and_lists():
    document = {"a/b": [{"x": None}], "": 1}
    assert ptr.get(document, "/a~1b/0/x") is None
    assert ptr.get(document, "/") == 1
    assert ptr.get(document, "") is document
    for nowhere in ("/a~1b/1", "/a~1b/00", "/a~1b/-", "/no", "//x"):
        assert ptr.get(document, nowhere) is ptr.ABSENT


def test_overlap_is_the_prefix_relation_of_whole_tokens():
    assert ptr.overlap("/a", "/a/b")
    assert ptr.overlap("/a/b", "/a")
    assert ptr.overlap("/a", "/a")
    assert ptr.overlap("", "/x")
    assert not ptr.overlap("/a", "/ab")
    assert not ptr.overlap("/a/b", "/a/c")


def test_two_additions_at_a_lists_end_do_not_meet_but_meet_a_change_of_the_list():
    assert not ptr.overlap("/a/-", "/a/-")
    assert ptr.overlap("/a/-", "/a")
    assert not ptr.overlap("/a/-", "/a/0")
