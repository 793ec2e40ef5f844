import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.wire.spans import Edit, NotSplicable, Span, edited, elements, members, splice

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9**15) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
LAYOUT = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def text(value: object, layout: dict) -> bytes:
    return json.dumps(value, **layout).encode("utf-8", "surrogatepass")


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=6), LAYOUT)
def test_every_member_is_found_where_it_stands(value, layout):
    body = b" \n" + text(value, layout) + b"\t"
    found = members(body, Span(0, len(body)))
    assert list(found) == list(value)
    for name, span in found.items():
        assert json.loads(body[span.start : span.end]) == value[name]


@given(st.lists(JSON, max_size=6), LAYOUT)
def test_every_element_is_found_where_it_stands(value, layout):
    body = b'{"x": ' + text(value, layout) + b"}"
    place = members(body, Span(0, len(body)))["x"]
    assert [json.loads(body[s.start : s.end]) for s in elements(body, place)] == value


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'{"a":[1,2],"b":3,"a":4}', b'{"\\u0061":1,"a":2}'])
def test_a_key_that_stands_twice_cannot_be_cut(body):
    with pytest.raises(NotSplicable):
        members(body, Span(0, len(body)))


def test_insertions_at_one_place_keep_their_order():
    assert splice(b"abc", [(2, b"1"), (0, b"0"), (2, b"2"), (3, b"!")]) == b"0ab12c!"


def test_edits_replace_and_put_in():
    edits = [Edit(4, 6, b"X"), Edit(2, 2, b"1"), Edit(2, 2, b"2"), Edit(7, 7, b"!"), Edit(2, 3, b"C")]
    assert edited(b"abcdefg", edits) == b"ab12CdXg!"
