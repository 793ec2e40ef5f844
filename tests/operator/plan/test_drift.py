from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_operator.plan.drift import differences, quantity

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_a_thing_does_not_differ_from_itself(thing: Any) -> None:
    assert differences(thing, thing) == []


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(), max_size=4), st.integers())
def test_what_the_intent_does_not_name_is_not_its_business(intent: dict[str, int], other: int) -> None:
    assert differences(intent, intent | {"of somebody else": other}) == []


@pytest.mark.parametrize(
    ("intent", "live", "paths"),
    [
        ({"spec": {"replicas": 1}}, {"spec": {"replicas": 2, "x": 1}}, ["/spec/replicas"]),
        ({"a": {"b": 1}}, {}, ["/a"]),
        ({"a": {}}, {}, []),
        ({"a": []}, {"a": None}, []),
        ({"a": ""}, {}, []),
        ({"ports": [{"name": "x", "port": 1}]}, {"ports": [{"name": "x", "port": 1, "protocol": "TCP"}]}, []),
        ({"env": [{"name": "a", "value": "1"}, {"name": "b"}]}, {"env": [{"name": "b"}, {"name": "a", "value": "2"}]},
         ["/env/a/value"]),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}, ["/args/0", "/args/1"]),
        ({"args": ["a"]}, {"args": ["a", "b"]}, ["/args"]),
        ({"requests": {"memory": "1Gi", "cpu": "100m"}}, {"requests": {"memory": "1024Mi", "cpu": "0.1"}}, []),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1G"}}, ["/limits/memory"]),
    ],
)  # fmt: skip
def test_only_what_the_intent_names_can_differ(intent: Any, live: Any, paths: list[str]) -> None:
    assert differences(intent, live) == paths


def test_a_quantity_has_one_value_in_all_its_forms() -> None:
    assert quantity("1500m") == quantity("1.5")
    assert quantity("1Ki") == quantity("1024") != quantity("1k")
    assert quantity("many") is None
