"""Heads of two and three regions: every order of delivery comes to the same state, and nothing written is lost."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmemory_sidecar.memory import heads as h
from agentmemory_sidecar.memory.heads import Head, Merged, MergeStrategy, collect, merge, resolve, write
from agentmemory_sidecar.memory.state import Operation, Patch, PatchError, apply, empty

BEGIN = empty("u")
IDS = itertools.count()


class World:
    """Regions with replicas of one another's heads, as an eventual global table keeps them."""

    def __init__(
        self, regions: tuple[str, ...], strategies: h.Strategies | None = None, *, collects: bool = True
    ) -> None:
        self.regions, self.strategies, self.collects = regions, strategies, collects
        self.replicas: dict[str, dict[str, Head]] = {region: {} for region in regions}

    def seen(self, region: str) -> Merged:
        return merge(self.replicas[region], self.strategies)

    def state(self, region: str) -> Any:
        return self.seen(region).state or BEGIN

    def write(self, region: str, *operations: Operation, name: str = "") -> bool:
        """False for what does not fit the state as the region sees it."""
        patch = Patch(name or f"p{next(IDS)}", operations=operations)
        try:
            apply(self.state(region), patch)
        except PatchError:
            return False
        mine = self.replicas[region]
        head = write(
            mine.get(region, Head()), self.seen(region), region, patch, beginning=BEGIN, strategies=self.strategies
        )
        after = {**mine, region: head}
        if self.collects:
            head = collect(after, region, self.regions, self.strategies)
        # What is stored is read again by others as bytes.
        mine[region] = msgspec.msgpack.decode(msgspec.msgpack.encode(head), type=Head)
        return True

    def deliver(self, source: str, target: str) -> None:
        if source in self.replicas[source]:
            self.replicas[target][source] = self.replicas[source][source]

    def heal(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            for source, target in itertools.permutations(self.regions, 2):
                self.deliver(source, target)


def put(pointer: str, value: Any) -> Operation:
    return Operation("set", pointer, value)


def add(pointer: str, *values: Any) -> Operation:
    return Operation("append", pointer, list(values))


@pytest.fixture
def two() -> World:
    return World(("east", "west"))


def test_a_head_is_unmerged_until_every_other_one_has_recorded_what_it_wrote(two: World) -> None:
    def unmerged() -> list[int]:
        return [h.unmerged(two.replicas[region]) for region in two.regions]

    two.write("east", put("/extracted_context/a", 1))
    assert unmerged() == [0, 0], "nobody else has a head"
    two.heal()
    two.write("west", put("/extracted_context/b", 1))
    two.write("east", put("/extracted_context/c", 1))
    assert unmerged() == [0, 1], "the east has not heard of the west yet, and the west saw what the east wrote first"
    two.heal()
    assert unmerged() == [2, 2]
    two.write("east", put("/extracted_context/d", 1))
    two.heal()
    assert unmerged() == [1, 1], "the west does not know d"
    two.write("west", put("/extracted_context/e", 1))
    two.heal()
    two.write("east", put("/extracted_context/a", 2))
    two.heal()
    two.write("west", put("/extracted_context/a", 3))
    assert unmerged()[1] == 1, "only its own write is new"


def test_what_one_region_writes_the_other_reads(two: World) -> None:
    two.write("east", put("/extracted_context/a", 1))
    two.heal()
    assert two.state("west")["extracted_context"] == {"a": 1}
    assert two.state("west")["active_mission"] == BEGIN["active_mission"]
    assert not two.seen("west").clashes


def test_writes_at_different_places_meet_without_a_clash(two: World) -> None:
    two.write("east", put("/extracted_context/a", 1))
    two.write("west", put("/extracted_context/b", 2))
    two.heal()
    assert two.state("east") == two.state("west")
    assert two.state("east")["extracted_context"] == {"a": 1, "b": 2}
    assert not two.seen("east").clashes


def test_a_clash_keeps_both_and_is_the_same_everywhere(two: World) -> None:
    two.write("east", put("/active_mission/goal", "Rome"))
    two.write("west", put("/active_mission/goal", "Oslo"))
    two.heal()
    assert two.seen("east") == two.seen("west")
    (clash,) = two.seen("east").clashes
    assert {clash.stands.operation.value, clash.other.operation.value} == {"Rome", "Oslo"}
    assert two.state("east")["active_mission"]["goal"] == clash.stands.operation.value
    assert clash.pointer == "/active_mission/goal"


def test_a_clash_outlives_collection_until_a_person_settles_it(two: World) -> None:
    two.write("east", put("/extracted_context/a", 1))
    two.write("west", put("/extracted_context/a", 2))
    for _ in range(3):
        two.heal()
        two.write("east", put("/extracted_context/x", next(IDS)))
        two.heal()
        two.write("west", put("/extracted_context/y", next(IDS)))
    two.heal()
    assert all(len(two.replicas["east"][region].log) <= 2 for region in two.regions)
    (clash,) = two.seen("west").clashes
    mine = two.replicas["west"]
    mine["west"] = resolve(mine["west"], [clash.id])
    assert not two.seen("west").clashes
    two.heal()
    assert not two.seen("east").clashes
    two.write("east", put("/extracted_context/z", 0))
    two.heal()
    assert not two.seen("west").clashes


def test_a_clash_is_news_until_its_region_has_seen_both_sides(two: World) -> None:
    two.write("east", put("/goal", "e"))
    two.write("west", put("/goal", "w"))
    two.heal()
    clashes = two.seen("east").clashes
    assert h.unknown_to(None, clashes) == 1
    assert h.unknown_to(two.replicas["east"]["east"], clashes) == 1
    two.write("east", put("/other", 1))
    assert h.unknown_to(two.replicas["east"]["east"], clashes) == 0


def test_equal_values_do_not_clash(two: World) -> None:
    two.write("east", put("/extracted_context/a", 1))
    two.write("west", put("/extracted_context/a", 1))
    two.heal()
    assert not two.seen("east").clashes


def test_appends_of_both_sides_stay(two: World) -> None:
    two.write("east", put("/extracted_context/l", []))
    two.heal()
    for number in range(20):
        two.write("east", add("/extracted_context/l", f"e{number}"))
        two.write("west", add("/extracted_context/l", f"w{number}"))
        if number % 7 == 0:
            two.heal()
    two.heal()
    values = two.state("west")["extracted_context"]["l"]
    assert sorted(values) == sorted([f"e{n}" for n in range(20)] + [f"w{n}" for n in range(20)])
    assert two.state("east") == two.state("west")


def test_lists_are_united_where_that_is_declared() -> None:
    place = "/active_mission/sub_tasks"
    two = World(("east", "west"), {"/active_mission": MergeStrategy.UNION})
    two.write("east", put(place, ["a", "b"]))
    two.heal()
    two.write("east", put(place, ["a", "b", "c"]))
    two.write("west", put(place, ["b", "d"]))
    two.heal()
    assert sorted(two.state("east")["active_mission"]["sub_tasks"]) == ["b", "c", "d"]
    assert two.state("east") == two.state("west")
    assert not two.seen("east").clashes


def test_the_later_wins_silently_where_that_is_declared() -> None:
    two = World(("east", "west"), {"/extracted_context/a": MergeStrategy.LATEST})
    two.write("east", put("/extracted_context/a", 1))
    two.write("west", put("/extracted_context/a", 2))
    two.heal()
    assert two.state("east") == two.state("west")
    assert not two.seen("east").clashes


def test_merging_raises_no_component(two: World) -> None:
    two.write("east", put("/extracted_context/a", 1))
    two.heal()
    for _ in range(3):
        two.write("west")  # a step that changes no state
        two.heal()
    assert two.seen("west").vector == {"east": 1}
    assert two.replicas["west"]["west"].vector == {"east": 1}


def test_a_region_alone_does_not_grow_without_end(two: World) -> None:
    for number in range(1_000):
        two.write("east", put(f"/extracted_context/k{number % 10}", number))
    assert len(two.replicas["east"]["east"].log) <= h.LONG_LOG + 10
    two.heal()
    assert two.state("west") == two.state("east")
    assert set(two.state("west")["extracted_context"].values()) == set(range(990, 1_000))


def test_heads_stay_small_whatever_is_written_into_them(two: World) -> None:
    value = "x" * 10_000
    for number in range(200):
        two.write("east", put("/extracted_context/a", f"{value}{number}"))
        two.write("west", put("/extracted_context/b", f"{value}{number}"), put("/extracted_context/a", f"{number}"))
    two.heal()
    for _ in range(3):
        two.write("east", put("/extracted_context/c", next(IDS)))
        two.write("west", put("/extracted_context/d", next(IDS)))
        two.heal()
    assert all(len(msgspec.msgpack.encode(two.replicas["east"][region])) < 150_000 for region in two.regions)
    assert two.seen("east").state == two.seen("west").state


def test_all_is_collected_once_everybody_has_seen_it(two: World) -> None:
    for number in range(10):
        two.write("east", put(f"/extracted_context/e{number}", number))
        two.write("west", put(f"/extracted_context/w{number}", number))
        two.heal()
    two.write("east")
    two.heal()
    two.write("west")
    assert len(two.replicas["west"]["west"].log) <= 1
    assert len(two.state("west")["extracted_context"]) == 20


def test_a_region_that_comes_back_gives_its_patches_back() -> None:
    three = World(("a", "b", "c"))
    three.write("c", put("/extracted_context/from_c", 1))
    for number in range(5):
        three.write("a", put("/extracted_context/n", number))
        three.deliver("a", "b")
        three.write("b", put("/extracted_context/m", number))
        three.deliver("b", "a")
    three.heal(2)
    assert {three.state(region)["extracted_context"]["from_c"] for region in three.regions} == {1}
    assert three.seen("a") == three.seen("b") == three.seen("c")


# ------------------------------------------------------------------------------------------------------- any history

PLACES = ("/extracted_context/a", "/extracted_context/b", "/extracted_context/b/c", "/extracted_context/l")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 2), st.sampled_from(PLACES)),
        st.tuples(st.just("append"), st.integers(0, 2), st.just(PLACES[3])),
        st.tuples(st.just("remove"), st.integers(0, 2), st.sampled_from(PLACES)),
        st.tuples(st.just("seen"), st.integers(0, 2), st.just("")),
        st.tuples(st.just("deliver"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("heal"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


def play(world: World, steps: list[tuple[str, int, Any]], first: int = 0) -> list[tuple[str, str, str]]:
    """Returns what was written: id, pointer and value."""
    written = []
    for number, (what, at, where) in enumerate(steps, first):
        region = world.regions[at % len(world.regions)]
        name, value = f"p{number}", f"v{number}"
        if what == "set":
            if world.write(region, put(where, {"v": value} if where == PLACES[1] else value), name=name):
                written.append((name, where, value))
        elif what == "append":
            if world.write(region, add(where, value), name=name):
                written.append((name, where, value))
        elif what == "remove":
            world.write(region, Operation("remove", where), name=name)
        elif what == "seen":
            world.write(region)
        elif what == "deliver":
            other = world.regions[where % len(world.regions)]
            if other != region:
                world.deliver(region, other)
        else:
            world.heal()
    return written


def converged(world: World) -> Merged:
    world.heal()
    found = [world.seen(region) for region in world.regions]
    assert all(each == found[0] for each in found)
    return found[0]


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, regions=st.sampled_from([("e", "w"), ("a", "b", "c")]))
def test_all_regions_converge_whatever_is_collected_on_the_way(
    steps: list[tuple[str, int, Any]], regions: tuple[str, ...]
) -> None:
    world, plain = World(regions), World(regions, collects=False)
    play(world, steps)
    play(plain, steps)
    with_bases, without = converged(world), converged(plain)
    assert with_bases.state == without.state
    assert with_bases.vector == without.vector
    assert {clash.id for clash in with_bases.clashes} == {clash.id for clash in without.clashes}


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, regions=st.sampled_from([("e", "w"), ("a", "b", "c")]))
def test_no_write_goes_unless_somebody_who_knew_it_wrote_over_it(
    steps: list[tuple[str, int, Any]], regions: tuple[str, ...]
) -> None:
    world = World(regions)
    written: set[str] = set()
    over: set[str] = set()
    for number, (what, at, where) in enumerate(steps):
        region = regions[at % len(regions)]
        before = text(world.seen(region))
        done = play(world, [(what, at, where)], number)
        if what in ("set", "remove"):
            after = text(world.seen(region))
            over |= {value for value in written if f'"{value}"' in before and f'"{value}"' not in after}
        written |= {value for _, _, value in done}
    final = text(converged(world))
    assert [value for value in written - over if f'"{value}"' not in final] == []


def text(merged: Merged) -> str:
    """State and clashes, as a person would look for a value."""
    return msgspec.json.encode({"state": merged.state, "clashes": merged.clashes}).decode()
