import pytest

from agentmemory_sidecar.memory.filter import Lexical, NoFilter, Unsupported, make


def test_none_selects_nothing_and_tells_the_cost_of_all():
    found = NoFilter().select({"a": {"goal": "x" * 400}}, "goal", 1000, pinned=["/a/goal"])
    assert (found.facts, found.tokens) == ((), 0)
    assert found.state_tokens > 100


def test_strategies_are_made_by_name_in_any_case():
    assert isinstance(make("LEXICAL"), Lexical)
    assert isinstance(make("None"), NoFilter)


@pytest.mark.parametrize(
    ("name", "what"),
    [("subagent", "SubAgent is not supported yet"), ("Hybrid", "not supported yet"), ("bm25", "no strategy")],
)
def test_other_strategies_are_refused_by_name(name, what):
    with pytest.raises(Unsupported, match=what):
        make(name)
