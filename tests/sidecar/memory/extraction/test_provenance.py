from typing import Any

from agentmemory_sidecar.memory.extraction.provenance import MOST, Note, notes, noting, shown, without
from agentmemory_sidecar.memory.filter.facts import facts_of
from agentmemory_sidecar.memory.state import Operation, apply_one

A, B = "/extracted_context/a", "/extracted_context/b/c"
STATE: dict[str, Any] = {"metadata": {"v": "2.1"}, "extracted_context": {"a": 1, "b": {"c": ["x"]}}}


def noted(state: dict[str, Any], *learnt: Note) -> dict[str, Any]:
    operation = noting(state, learnt)
    return apply_one(state, operation) if operation else state


def test_notes_are_told_of_facts_that_are_still_the_same() -> None:
    first, second = Note(A, "t1", 1.0, "high"), Note(B, "t2", 2.0, "low")
    state = noted(STATE, second, first)
    assert notes(state) == [first, second]
    assert shown(state)[0] == {"pointer": A, "turn": "t1", "at": 1.0, "confidence": "high"}
    assert without(state) == STATE
    changed = apply_one(state, Operation("set", A, 2))
    assert notes(changed) == [second]
    assert notes(apply_one(changed, Operation("remove", "/extracted_context/b"))) == []


def test_void_notes_go_with_the_next_one() -> None:
    state = apply_one(noted(STATE, Note(A, "t1", 1.0, "high")), Operation("set", A, 2))
    after = noted(state, Note(B, "t2", 2.0, "high"))
    assert after["metadata"]["provenance"].keys() == {B}
    assert noting(after, []) is None


def test_the_oldest_notes_go() -> None:
    state: dict[str, Any] = {"metadata": {}, "notes": {f"n{number}": number for number in range(MOST + 3)}}
    state = noted(state, *(Note(f"/notes/n{number}", "t", float(number), "high") for number in range(MOST)))
    state = noted(state, *(Note(f"/notes/n{number}", "t", float(number), "high") for number in range(MOST, MOST + 3)))
    kept = notes(state)
    assert len(kept) == MOST
    assert kept[0].pointer == "/notes/n3"


def test_no_filter_finds_them_and_broken_ones_are_none() -> None:
    state = noted(STATE, Note(A, "turn-id", 1.0, "medium"))
    assert not any("turn-id" in fact.text for fact in facts_of(state))
    broken = {**STATE, "metadata": {"provenance": {A: "x", "no pointer": ["t", 1.0, "high", ""], B: [1, "x", 3, 4]}}}
    assert notes(broken) == []
    assert notes({"metadata": {"provenance": 7}}) == []
