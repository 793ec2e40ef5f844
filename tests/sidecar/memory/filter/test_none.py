import pytest

from agentmemory_sidecar.memory.filter import Lexical, NoFilter, Unsupported, make

STATE = {"a": {"goal": "Ship the goal " * 20, "notes": ["The goal is near", "The sea is blue"]}}


def test_none_finds_nothing_and_tells_the_cost_of_all():
    found = NoFilter().select(STATE, "goal", 1000)
    assert (found.facts, found.tokens) == ((), 0)
    assert found.state_tokens > 60


def test_what_is_pinned_goes_in_all_the_same():
    found = NoFilter().select(STATE, "goal", 1000, pinned=["/a/goal"])
    assert [fact.pointer for fact in found.facts] == ["/a/goal"]


def test_strategies_are_made_by_name_in_any_case():
    assert isinstance(make("LEXICAL"), Lexical)
    assert isinstance(make("None"), NoFilter)


def test_strategies_with_helpers_count_by_words():
    assert isinstance(make("SubAgent"), Lexical)
    assert isinstance(make("hybrid"), Lexical)


def test_another_strategy_is_refused_by_name():
    with pytest.raises(Unsupported, match="no strategy is called 'bm25'"):
        make("bm25")
