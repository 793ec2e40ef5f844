import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.filter import Lexical, Selection, lexical
from agentmemory_sidecar.memory.filter.facts import facts_of
from agentmemory_sidecar.memory.render import claims, render
from agentmemory_sidecar.memory.tokens import estimate
from tests.sidecar.memory import strategies as own

STATE = {
    "metadata": {"v": "2.1", "user_id": "usr_1"},
    "active_mission": {
        "goal": "Move the shop to Postgres",
        "sub_tasks": ["dump the tables", "test restore"],
        "blocked_by": None,
    },
    "extracted_context": {
        "database": {"host": "db7.example", "port": 5432},
        "people": [{"text": "Mira owns the payment service"}, {"text": "Jon is on holiday until 12 May 2024"}],
        "style": "prefers short answers",
    },
}


def pointers(selection: Selection) -> list[str]:
    return [fact.pointer for fact in selection.facts]


def select(query, budget=400, **more):
    return Lexical().select(STATE, query, budget, explain=True, **more)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("Who is the owner of payments?", "/extracted_context/people/0"),
        ("which port does the database use", "/extracted_context/database"),
        ("when does Jon come back?", "/extracted_context/people/1"),
        ("are we restoring or testing?", "/active_mission/sub_tasks/1"),
    ],
)
def test_the_fact_that_answers_scores_best(query, pointer):
    best = max(select(query).facts, key=lambda fact: fact.score)
    assert best.pointer == pointer
    assert best.reason


def test_pinned_facts_go_first_in_their_order_and_what_must_not_go_in_does_not():
    pinned = ["/extracted_context/style", "/active_mission/goal", "/active_mission/blocked_by"]
    found = select("who owns the payment service", pinned=pinned, never=["/extracted_context/people"])
    assert pointers(found)[:2] == ["/extracted_context/style", "/active_mission/goal"]
    assert [fact.reason for fact in found.facts[:2]] == ["pinned", "pinned"]
    assert not any(ptr.covers("/extracted_context/people", pointer) for pointer in pointers(found))
    assert pointers(select("x", pinned=["/extracted_context/style"], never=["/extracted_context/style"])) == []


def test_metadata_is_never_told():
    assert pointers(select("usr_1 metadata user id", pinned=["/metadata"])) == []


def test_what_was_said_is_not_said_again_until_it_changes():
    pinned = ["/active_mission/goal"]
    first = select("restore", pinned=pinned)
    said = dict(claims(first))
    again = select("restore", pinned=pinned, said=said)
    assert pointers(again) == []
    assert {dropped.reason for dropped in again.dropped} == {"said"}
    said["/active_mission/goal"] = "0" * 16
    assert pointers(select("restore", pinned=pinned, said=said)) == ["/active_mission/goal"]


def test_an_element_that_moved_in_its_list_counts_as_said():
    value = dict(claims(select("restore")))["/active_mission/sub_tasks/1"]
    said = {"/active_mission/sub_tasks/9": value}
    assert "/active_mission/sub_tasks/1" not in pointers(select("restore", said=said))


def test_pinned_facts_beyond_the_budget_are_cut_and_reported():
    state = {"a": {"goal": "word " * 200, "next": "more"}}
    found = Lexical().select(state, "next", 60, pinned=["/a/goal", "/a/next"], explain=True)
    assert found.truncated
    assert pointers(found) == ["/a/goal"]
    assert found.facts[0].text.endswith("…")
    assert [(dropped.pointer, dropped.reason) for dropped in found.dropped] == [("/a/next", "budget")]
    assert estimate(render(found)) <= found.tokens <= 60


def test_a_budget_too_small_for_anything_gives_nothing():
    assert select("restore", 10).facts == ()
    assert select("restore", 10).tokens == 0
    assert render(select("restore", 0, pinned=["/active_mission/goal"])) == ""


def test_a_query_with_nothing_to_go_by_gets_only_what_is_pinned():
    assert pointers(select("and what of it?", pinned=["/active_mission/goal"])) == ["/active_mission/goal"]
    assert pointers(select("")) == []


def test_the_same_words_twice_are_said_once():
    state = {"x": {"l": ["The red door is locked", "the red  door is locked", "The blue door is open"]}}
    found = Lexical().select(state, "which door", 300, explain=True)
    assert len(found.facts) == 2
    assert [dropped.reason for dropped in found.dropped] == ["duplicate"]


def test_the_answer_behind_a_question_is_found_by_the_question():
    lines = ["Ann: Did you find the umbrella?", "Bob: Yes, under the stairs.", "Ann: Good.", "Bob: It rains in Leeds."]
    state = {
        "talk": {
            "lines": [*lines, *(f"Ann: chatter number {number}" for number in range(40)), "Bob: Bye.", "Bob: Bye!"]
        }
    }
    found = Lexical().select(state, "Where was Bob's umbrella?", 75)
    assert "/talk/lines/1" in pointers(found)


def test_a_date_in_the_query_prefers_facts_of_that_time():
    notes = [
        {"text": f"The meeting about budget {number} was long", "time": f"2024-0{number}-10"} for number in range(1, 9)
    ]
    found = Lexical().select({"x": {"notes": notes}}, "What about the budget meeting in May 2024?", 60)
    assert pointers(found)[0] == "/x/notes/4"


def test_the_newer_of_two_equals_is_preferred():
    facts = ["Theo lives in Oslo", "Theo lives in Rome", "Theo lives in Kyiv"]
    found = Lexical().select({"x": {"facts": facts}}, "Where does Theo live now?", 34)
    assert pointers(found) == ["/x/facts/2"]


def test_an_index_is_built_once_for_each_version_of_a_state():
    lexical = Lexical()
    first = lexical._prepare(STATE, (), ())
    assert lexical._prepare(dict(STATE), (), ()) is first
    assert lexical._prepare({**STATE, "new": 1}, (), ()) is not first


def test_the_whole_states_cost_is_told():
    assert select("x").state_tokens > 80


@given(
    own.states,
    st.text(max_size=20) | st.just("yes two words x"),
    st.integers(0, 120),
    st.lists(own.pointers, max_size=2),
    st.lists(own.pointers, max_size=2),
)
def test_the_budget_holds_and_the_choice_is_the_same_each_time(state, query, budget, pinned, never):
    found = Lexical().select(state, query, budget, pinned=pinned, never=never)
    assert found.tokens <= budget
    assert estimate(render(found)) <= found.tokens
    assert len(set(pointers(found))) == len(found.facts)
    assert not any(ptr.covers(outer, pointer) for outer in never for pointer in pointers(found))
    assert found == Lexical().select(state, query, budget, pinned=pinned, never=never)


@given(own.states)
def test_with_room_for_all_every_pinned_fact_is_in(state):
    found = Lexical().select(state, "", 100_000, pinned=[""])
    assert sorted(pointers(found)) == sorted(fact.pointer for fact in facts_of(state, pinned=[""]))


def test_what_was_said_leaves_room_for_what_was_not():
    doors = {f"room_{number}": f"The door of room {number} is painted red" for number in range(100)}
    other = {f"note_{number}": f"Invoice {number} was paid" for number in range(300)}
    state = {"x": {**doors, **other, "shed": "Behind the shed a door is red"}}
    said = dict(claims(Lexical().select(state, "which door is painted red", 3000)))
    assert len(said) > 90
    del said["/x/shed"]
    assert pointers(Lexical().select(state, "which door is painted red", 300, said=said)) == ["/x/shed"]


def test_where_all_was_said_nothing_is_compared_and_the_reason_is_told():
    said = {fact.pointer: fact.hash for fact in facts_of(STATE)}
    again = select("restore", said=said)
    assert pointers(again) == []
    assert [(dropped.pointer, dropped.reason, dropped.score) for dropped in again.dropped] == [
        (pointer, "said", 0.0) for pointer in said
    ]


def test_a_state_is_read_once_for_all_questions_about_it(monkeypatch):
    read = []
    monkeypatch.setattr(lexical, "facts_of", lambda *given: read.append(given) or facts_of(*given))
    filter_ = Lexical()
    other = {"x": {"l": ["The red door"]}}
    for state in (STATE, STATE, dict(STATE), STATE, other, {**other}, STATE):
        assert pointers(filter_.select(state, "red restore", 300)), state
    assert len(read) == 2
    filter_.select(STATE, "restore", 300, pinned=["/active_mission/goal"])
    assert len(read) == 3


def test_what_is_kept_of_states_is_bounded(monkeypatch):
    monkeypatch.setattr(lexical, "KEPT_FACTS", 20)
    filter_ = Lexical()
    for number in range(60):
        state = {"x": {"l": [f"door {number} {place}" for place in range(8)]}}
        assert len(filter_.select(state, f"door {number}", 300).facts) == 8
        assert len(filter_.select(json.loads(json.dumps(state)), f"door {number}", 300).facts) == 8
    assert len(filter_._kept) == len(filter_._seen) == 2
