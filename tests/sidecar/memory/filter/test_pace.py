from agentmemory_sidecar.memory.filter import Lexical
from agentmemory_sidecar.memory.filter.pace import LEAST, pace
from agentmemory_sidecar.memory.render import claims

NAMES = [f"{first}{last}" for first in ("Bran", "Cor", "Del", "Fin", "Gal") for last in ("tec", "ix", "ona", "co")]
STATE = {
    "active_mission": {"goal": "Move the shop"},
    "extracted_context": {
        "notes": [f"The invoices of {name} go out on day {day}" for day, name in enumerate(NAMES)],
        "logs": [f"Run {number} of the nightly job took {number} minutes and left no errors" for number in range(800)],
    },
}
PINNED = ["/active_mission/goal"]


def select(query, **more):
    return Lexical().select(STATE, query, 1000, pinned=PINNED, **more)


def test_a_small_state_may_be_told_at_once_and_a_large_one_in_pieces():
    assert pace(0, 900, 40).enough == 1000
    assert pace(0, 4_000, 200).enough == pace(0, 20_000, 800).enough == 250
    assert pace(0, 40_000, 1600).enough == 500
    assert pace(900, 20_000, 800).enough == LEAST


def test_the_bar_rises_with_what_a_conversation_holds():
    bars = [pace(spent, 20_000, 800).score for spent in (0, 200, 900, 1_000, 9_000)]
    assert bars == sorted(bars)
    assert bars[0] == 0 == pace(0, 0, 0).score
    assert pace(2_000, 1_000, 40).score == pace(2_000, 1_000, 40).near_best == 0, "a small state may be told whole"
    assert 0 < pace(2_000, 2_000, 80).score < pace(2_000, 4_000, 80).score
    assert bars[-1] == bars[-2]


def test_a_question_by_itself_may_fill_its_budget():
    alone, first = select("nightly job errors"), select("nightly job errors", spent=0)
    assert alone.tokens > 900 > 300 > first.tokens


def test_in_a_long_conversation_what_is_asked_for_goes_in_and_little_else():
    question = "When do the invoices of Galtec go out?"
    late, alone = select(question, spent=2_000, explain=True), select(question)
    assert f"/extracted_context/notes/{NAMES.index('Galtec')}" in [fact.pointer for fact in late.facts]
    assert len(late.facts) <= 5 < 20 <= len(alone.facts)
    assert "enough" in {dropped.reason for dropped in late.dropped}
    assert not select("The nightly job again, please.", spent=2_000, said=dict(claims(select("")))).facts


def test_what_a_model_picks_needs_no_words_but_keeps_the_pace():
    from agentmemory_sidecar.memory.filter import Hints

    picked = tuple(f"/extracted_context/logs/{number}" for number in range(100))
    found = select("invoices", spent=2_000, hints=Hints(picked=picked, only_picked=True))
    logs = [fact for fact in found.facts if "logs" in fact.pointer]
    assert 1 <= len(logs) <= 5
