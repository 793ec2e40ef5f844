from hypothesis import given
from hypothesis import strategies as st

from agentmemory_operator.plan.redis.slots import quotas_of
from agentmemory_operator.plan.redis.values import ranges_of, slots_of, written


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 16384), min_size=1, max_size=9))
def test_shares_are_equal_and_those_that_own_most_keep_the_odd_slots(owned: dict[str, int]) -> None:
    quotas = quotas_of(owned)
    assert sum(quotas.values()) == 16384
    assert max(quotas.values()) - min(quotas.values()) <= 1
    assert quotas_of(quotas) == quotas


@given(st.sets(st.integers(0, 16383), max_size=200))
def test_slots_survive_being_written_as_ranges(slots: set[int]) -> None:
    assert slots_of(ranges_of(slots)) == slots


def test_ranges_are_written_for_people() -> None:
    assert written(ranges_of([1, 2, 3, 7])) == "1-3 7"
    assert written(tuple((n, n) for n in range(0, 20, 2))) == "0 2 4 6 and 6 more ranges"
