"""Patches on their way to a state that others write too."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.memory.heads import Strategies
from agentmemory_sidecar.memory.item import OutgoingPatch
from agentmemory_sidecar.memory.outgoing import land, prepare
from agentmemory_sidecar.memory.rebase import Rebased
from agentmemory_sidecar.memory.state import Operation, Patch, apply
from agentmemory_sidecar.resource.state import MergeStrategy

STATE: dict[str, Any] = {"a": 1, "list": ["x"], "deep": {"b": {"c": 2}}}


def sent(*operations: Operation, state: dict[str, Any] = STATE, declared: Strategies | None = None) -> OutgoingPatch:
    made = prepare(1, "", "root", Patch("p", operations=operations), state, declared or {})
    # It lies in an item in between.
    return msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=OutgoingPatch)


def refused(landed: Rebased) -> list[str]:
    return [clash.pointer for clash in landed.conflict.clashes] if landed.conflict else []


def test_lands_where_nothing_moved() -> None:
    landed = land(STATE, sent(Operation("set", "/a", 5), Operation("append", "/list", ["y"])))
    assert landed.state == {**STATE, "a": 5, "list": ["x", "y"]}
    assert landed.conflict is None


def test_does_not_write_over_what_another_wrote_since() -> None:
    landed = land({**STATE, "a": 9}, sent(Operation("set", "/a", 5), Operation("set", "/new", 1)))
    assert landed.state == {**STATE, "a": 9, "new": 1}
    assert refused(landed) == ["/a"]
    assert landed.conflict is not None
    assert landed.conflict.clashes[0].theirs == 9


def test_whole_is_not_written_over_a_part_that_moved() -> None:
    newer = {**STATE, "deep": {"b": {"c": 3}}}
    assert refused(land(newer, sent(Operation("set", "/deep", {})))) == ["/deep"]
    assert refused(land(newer, sent(Operation("merge", "/deep", {"d": 1})))) == []


def test_what_stands_already_is_no_conflict() -> None:
    assert refused(land({**STATE, "a": 5}, sent(Operation("set", "/a", 5)))) == []


def test_additions_land_whatever_came_before() -> None:
    landed = land({**STATE, "list": ["z"]}, sent(Operation("append", "/list", ["y"])))
    assert landed.state["list"] == ["z", "y"]


def test_operation_that_fits_no_more_is_a_conflict_and_holds_back_what_builds_on_it() -> None:
    landed = land(
        {**STATE, "list": "text"}, sent(Operation("append", "/list", ["y"]), Operation("set", "/list/1", "z"))
    )
    assert landed.state == {**STATE, "list": "text"}
    assert len(refused(landed)) == 2


def test_declared_strategies_hold_on_the_way_too() -> None:
    latest = {"/a": MergeStrategy.LATEST}
    assert land({**STATE, "a": 9}, sent(Operation("set", "/a", 5), declared=latest)).state["a"] == 5
    union = {"/list": MergeStrategy.UNION}
    patch = sent(Operation("set", "/list", ["x", "mine"]), declared=union)
    assert land({**STATE, "list": ["x", "theirs"]}, patch).state["list"] == ["x", "theirs", "mine"]


VALUES = st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2))
WRITES = st.builds(
    Operation, st.sampled_from(["set", "remove"]), st.sampled_from(["/a", "/list", "/deep", "/deep/b", "/n"]), VALUES
)


@given(ours=st.lists(WRITES, max_size=4), theirs=st.lists(WRITES, max_size=4))
def test_every_operation_is_applied_or_in_the_conflict(ours: list[Operation], theirs: list[Operation]) -> None:
    newer: dict[str, Any] = STATE
    for operation in theirs:
        newer = land(newer, sent(operation, state=newer)).state
    landed = land(newer, sent(*ours))
    held = len(landed.conflict.patch.operations) if landed.conflict else 0
    assert len(landed.applied.operations) + held == len(ours)
    assert apply(newer, landed.applied) == landed.state
