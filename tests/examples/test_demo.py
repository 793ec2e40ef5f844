"""When the demonstration says that a memory did not survive. That it does survive, ``make run ARGS=--once`` shows."""

from dataclasses import replace

from examples.demo.__main__ import _lost
from examples.demo.conversation import Receipt

FACT = "Night Heron 46"
GOOD = Receipt("state", state=45, injected=165, replayed=0, commit="committed", version="3", flags="fresh", input=282)


def test_fact_from_the_state_tier_survived() -> None:
    assert _lost(FACT, "It is **night heron 46**.", GOOD) == ""


def test_answer_without_the_fact_is_a_loss() -> None:
    assert FACT in _lost(FACT, "I was not told.", GOOD)


def test_answer_from_another_tier_is_no_proof() -> None:
    assert "hot tier" in _lost(FACT, FACT, replace(GOOD, tier="hot"))
    assert "unknown tier" in _lost(FACT, FACT, replace(GOOD, tier=""))


def test_answer_that_nothing_was_injected_for_is_no_proof() -> None:
    assert "nothing was injected" in _lost(FACT, FACT, replace(GOOD, injected=0))
