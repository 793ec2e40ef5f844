"""Several owners' states as one: what is read is what was written, wherever it lies."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmemory_sidecar.memory.pointer import covers
from agentmemory_sidecar.memory.scopes import Home, Homes
from agentmemory_sidecar.memory.state import Operation, Patch, PatchError, apply, empty, touches
from agentmemory_sidecar.memory.together import Reading, origin, origins, read, shared_out
from agentmemory_sidecar.stores.protocols import Conversation

Json = dict[str, Any]
SESSION = Conversation("t", "s")
USER, PROJECT = Conversation.shared("t", "user", "anna"), Conversation.shared("t", "project", "apollo")
BEN = Conversation.shared("t", "user", "ben")
HOMES = Homes((Home(SESSION), Home(USER, ("/preferences",)), Home(PROJECT, ("/decisions", "/context/shared"))))
BEGINNING = empty()


def reading(*parts: Json, homes: Homes = HOMES) -> Reading:
    return read(homes, parts, BEGINNING)


def shares(of: Reading, *operations: Operation) -> list[list[tuple[str, str, Any]]]:
    patches, wrong = shared_out(Patch("p", "rules", operations), of)
    assert not wrong
    return [[(one.op, one.pointer, one.value) for one in patch.operations] for patch in patches]


def test_parts_are_read_as_one_state() -> None:
    found = reading(
        {**empty("anna"), "extracted_context": {"ticket": 7}}, {"preferences": {"tone": "dry"}},
        {**empty("ben"), "decisions": ["use Go"], "context": {"shared": 1}},
    )  # fmt: skip
    assert found.state == {
        **empty("anna"), "extracted_context": {"ticket": 7}, "preferences": {"tone": "dry"}, "decisions": ["use Go"],
        "context": {"shared": 1},
    }  # fmt: skip
    whose = origins(found)
    assert whose == {
        "/extracted_context": "session:s", "/preferences": "user:anna", "/decisions": "project:apollo",
        "/context": "project:apollo",
    }  # fmt: skip
    assert origin("/decisions/0", whose) == "project:apollo"
    assert reading({}, {}, {}).state == {}


def test_what_several_hold_is_the_narrowest_owners_but_a_beginning_hides_nothing() -> None:
    homes = Homes((Home(SESSION), Home(PROJECT, ("/active_mission",))))
    mission = {**empty(), "active_mission": {"goal": "land", "sub_tasks": ["burn"], "blocked_by": None}}
    assert reading(empty(), mission, homes=homes).state["active_mission"] == mission["active_mission"]
    mine = {**empty(), "active_mission": {"goal": "hover", "sub_tasks": [], "blocked_by": None}}
    both = reading(mine, mission, homes=homes)
    assert both.state["active_mission"] == {"goal": "hover", "sub_tasks": ["burn"], "blocked_by": None}
    assert origins(both) == {"/active_mission/goal": "session:s", "/active_mission/sub_tasks": "project:apollo"}


def test_a_patch_is_split_by_home() -> None:
    merge = {"ticket": 7, "preferences": {"tone": "dry"}, "decisions": None, "context": {"own": 1, "shared": {"a": 2}}}
    own, users, projects = shares(reading({}, {}, {"decisions": [1]}), Operation("merge", "", merge))
    assert own == [("merge", "", {"ticket": 7}), ("merge", "", {"context": {"own": 1}})]
    assert users == [("merge", "", {"preferences": {"tone": "dry"}})]
    assert projects == [("merge", "", {"decisions": None}), ("merge", "", {"context": {"shared": {"a": 2}}})]


def test_a_change_above_a_home_is_split_as_well() -> None:
    of = reading({"context": {"own": 1}}, {}, {"context": {"shared": 1}})
    assert shares(of, Operation("set", "/context", {"own": 2, "shared": 3})) == [
        [("set", "/context/own", 2)], [], [("set", "/context/shared", 3)]
    ]  # fmt: skip
    assert shares(of, Operation("remove", "/context")) == [
        [("remove", "/context", None)], [], [("remove", "/context/shared", None)]
    ]  # fmt: skip


def test_what_is_left_of_a_former_home_moves_with_the_next_change() -> None:
    of = reading({"preferences": {"tone": "dry", "likes": ["tea"]}}, {"preferences": {"tone": "warm"}}, {})
    assert of.state["preferences"]["tone"] == "dry"
    own, users, _ = shares(of, Operation("append", "/preferences/likes", ["rain"]))
    assert own == [("remove", "/preferences/likes", None)]
    assert users == [("set", "/preferences/likes", ["tea", "rain"])]


def test_what_may_only_be_read_cannot_be_changed_and_nothing_else_of_the_patch_is_done() -> None:
    homes = Homes((Home(SESSION), Home(PROJECT, ("/decisions",), writes=("/decisions/votes",))))
    of = reading({}, {"decisions": {"used": "Go"}}, homes=homes)
    assert of.state["decisions"] == {"used": "Go"}
    patch = Patch("p", "rules", (Operation("set", "/ticket", 7), Operation("set", "/decisions/used", "C")))
    _, (wrong,) = shared_out(patch, of)
    assert wrong["pointer"] == "/decisions/used"
    assert "no grant" in wrong["problem"]
    assert shares(of, Operation("append", "/decisions/votes", ["aye"]))[1]
    blocked = reading({}, {"decisions": {"used": "Go"}}, homes=homes)
    for there in (
        "/decisions/used/x",
        "/decisions/-",
        "/decisions",
    ):  # what cannot be done now might be, where it lands
        _, unable = shared_out(Patch("p", "", (Operation("set", there, 1),)), blocked)
        assert unable, there
    _, (whole, *_) = shared_out(Patch("p", "", (Operation("merge", "", {"decisions": None}),)), of)
    assert whole["pointer"] == "/decisions"


def test_what_others_share_lies_below_shared_and_is_changed_there() -> None:
    ben = Home(BEN, at="/shared/user/ben", reads=("/preferences/team",), writes=("/preferences/team",))
    homes = Homes((Home(SESSION), ben), guarded=True)
    his = {**empty("ben"), "preferences": {"team": {"editor": "vi"}, "diet": "secret"}, "memories": {"a.md": "secret"}}
    of = reading({"note": 1}, his, homes=homes)
    assert of.state["shared"] == {"user": {"ben": {"preferences": {"team": {"editor": "vi"}}}}}
    assert "secret" not in str(of.state)
    assert origin("/shared/user/ben/preferences/team/editor", origins(of)) == "user:ben"

    own, his_share = shares(of, Operation("set", "/shared/user/ben/preferences/team/editor", "ed"))
    assert (own, his_share) == ([], [("set", "/preferences/team/editor", "ed")])
    merge = Operation("merge", "", {"shared": {"user": {"ben": {"preferences": {"team": {"editor": "ed"}}}}}})
    assert shares(of, merge)[1] == [("merge", "/preferences/team/editor", "ed")]
    for place in ("/shared/user/ben/preferences/diet", "/shared/user/carol/preferences", "/shared/user/ben", "/shared"):
        _, wrong = shared_out(Patch("p", "", (Operation("set", place, {"x": 1}),)), of)
        assert [each["pointer"] for each in wrong] == [place]


def test_what_is_never_in_a_prompt_is_not_shared() -> None:
    homes = Homes((Home(SESSION), Home(BEN, at="/shared/user/ben")), guarded=True)
    found = read(homes, ({}, {"a": {"open": 1, "mail": "x@y"}}), BEGINNING, ("/a/mail",))
    assert found.state["shared"] == {"user": {"ben": {"a": {"open": 1}}}}


NAMES = st.sampled_from(["preferences", "decisions", "context", "shared", "own", "a"])
LEAVES = st.none() | st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=2)
VALUES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6)
STATES = st.dictionaries(NAMES, VALUES, max_size=4)
PLACES = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
OPERATIONS = st.one_of(
    st.builds(Operation, st.just("set"), PLACES, VALUES),
    st.builds(Operation, st.just("remove"), PLACES),
    st.builds(Operation, st.just("append"), PLACES, st.lists(st.integers(0, 2), max_size=2)),
    st.builds(Operation, st.just("merge"), PLACES | st.just(""), STATES),
)


@settings(max_examples=400, deadline=None)
@given(st.tuples(STATES, STATES, STATES), st.lists(OPERATIONS, min_size=1, max_size=3))
def test_what_was_written_is_what_is_read_next(parts: tuple[Json, Json, Json], operations: list[Operation]) -> None:
    of = reading(*parts)
    state = of.state or {"metadata": BEGINNING["metadata"]}
    patch = Patch("p", "", tuple(operations))
    try:
        wanted = apply(of.state, patch)
    except PatchError:
        return
    patches, wrong = shared_out(patch, of)
    assert not wrong
    after = [apply(part, share) for part, share in zip(parts, patches, strict=True)]
    again = reading(*after).state
    assert bare(again) == bare(wanted), (of, patches)
    assert state is not None
    for home, share in zip(HOMES.homes[1:], patches[1:], strict=True):
        for one in share.operations:
            inside = all(any(covers(pointer, place) for pointer in home.pointers) for place in touches(one))
            assert inside or one.op in ("remove", "set", "append")  # what is left over goes, and nothing new comes


def bare(value: Any) -> Any:
    """Without empty objects and what a new state begins with."""
    if not isinstance(value, dict):
        return value
    kept = {name: bare(inner) for name, inner in value.items() if name != "metadata"}
    return {name: inner for name, inner in kept.items() if inner not in ({}, BEGINNING["active_mission"])}


@pytest.mark.parametrize("place", ["/decisions", "/decisions/0", "/context/shared/x"])
def test_each_place_has_one_home(place: str) -> None:
    assert HOMES.of(place) == 2
