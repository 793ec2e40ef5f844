from hypothesis import given
from hypothesis import strategies as st

from agentmemory_operator import names

NAMES = st.text("abc-.1", min_size=1, max_size=253).filter(lambda name: name[0] not in "-." and name[-1] not in "-.")


@given(NAMES, NAMES)
def test_different_names_stay_different_however_short_they_must_be(one: str, other: str) -> None:
    same = one == other
    assert (names.label(one) == names.label(other)) is same
    assert (names.config_secret(one) == names.config_secret(other)) is same


@given(NAMES)
def test_every_name_fits(name: str) -> None:
    assert len(names.label(name)) <= 63
    assert len(names.child(name, "redis", "us-east-1", "0", longest=names.LONGEST_STATEFULSET)) <= 52
    assert "." not in names.child(name, "stores")
    assert names.config_secret(name) != names.DEFAULT_CONFIG_SECRET
