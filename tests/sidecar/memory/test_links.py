"""Big strings out of a value and back into it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmemory_sidecar.memory import links

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


class Store(dict[str, str]):
    def add(self, text: str) -> str:
        key = f"k{len(self)}"
        self[key] = text
        return key


@settings(max_examples=50)
@given(VALUES, st.integers(0, 60))
def test_what_is_taken_out_comes_back(value: Any, threshold: int) -> None:
    store = Store()

    small = links.extract(value, threshold, store.add)

    assert links.resolve(small, store) == value
    assert links.keys(small) == set(store)
    assert all(len(text.encode()) > threshold for text in store.values())


def test_link_says_what_it_stands_for() -> None:
    store = Store()

    small = links.extract({"a": ["ü" * 300, "x"]}, 500, store.add)

    assert small == {"a": [{"$blob": {"key": "k0", "size": 600, "type": "text/plain", "summary": "ü" * 240}}, "x"]}


def test_threshold_counts_bytes() -> None:
    store = Store()

    assert links.extract("x" * 10, 10, store.add) == "x" * 10
    assert links.is_link(links.extract("x" * 11, 10, store.add))
    assert links.is_link(links.extract("ü" * 6, 10, store.add))


def test_value_without_big_strings_is_not_copied() -> None:
    value = {"a": [1, {"b": "short"}]}

    assert links.extract(value, 100, Store().add) is value


def test_tuples_are_looked_through() -> None:
    store = Store()

    assert links.keys(links.extract({"operations": ({"value": "x" * 50},)}, 10, store.add)) == {"k0"}


def test_missing_blob_leaves_its_summary() -> None:
    small = links.extract({"a": "x" * 500}, 10, Store().add)

    assert links.resolve(small, {}) == small


@pytest.mark.parametrize("value", [{"$blob": "no object"}, {"$blob": {}, "more": 1}, "$blob", None])
def test_what_only_looks_like_a_link_is_none(value: Any) -> None:
    assert not links.is_link(value)
