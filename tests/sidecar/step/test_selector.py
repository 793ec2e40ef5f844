"""A resource's strategy: its helpers' part, and what is left without them."""

import asyncio
import time
from pathlib import Path

import pytest

from agentmemory_sidecar.memory.filter import Lexical, Selection, make
from agentmemory_sidecar.memory.filter.meaning import Meaning
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.models.embedder import Embedder, NoModel
from agentmemory_sidecar.resource.prompt import Strategy
from agentmemory_sidecar.step.selector import AT_ONCE, Local, NoPick, Selector, Wanted
from agentmemory_sidecar.tasks import Tasks

TINY = Path(__file__).parents[1] / "models" / "tiny"
NOTES = [
    "The hound sleeps on the sofa", "Her salary comes on the first", "The physician opens at nine",
    "Lunch is at noon", "They deploy on Tuesdays", "The flat has a balcony", "Rain is likely", "The sea is blue",
]  # fmt: skip
STATE = {"a": {"notes": NOTES}}


def pointers(selection: Selection) -> set[str]:
    return {fact.pointer for fact in selection.facts}


class Picks:
    """Picks what it is told to, or fails so; and remembers what it was offered."""

    def __init__(self, *answers: tuple[str, ...] | str) -> None:
        self.answers = list(answers)
        self.offered: list[list[str]] = []

    async def pick(self, facts, query):
        self.offered.append([fact.pointer for fact in facts])
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise NoPick(answer)
        return answer

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass


class World:
    def __init__(self, strategy: Strategy, *, picker: Picks | None = None, embed=None, deadline_s: float = 10) -> None:
        self.tasks, self.metrics = Tasks(), Metrics()
        self.local = Local(embed, Meaning()) if embed else None

        async def load() -> Local:
            assert self.local is not None
            return self.local

        self.selector = Selector(
            make(strategy), strategy, load=load if embed else None, deadline_s=deadline_s, picker=picker,
            tasks=self.tasks, metrics=self.metrics,
        )  # fmt: skip

    def fallbacks(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("agentmemory_filter_fallbacks_total", {"reason": reason}) or 0


def wanted(query: str = "Does she have a dog?", **more) -> Wanted:
    return Wanted(**{"state": STATE, "query": query, "budget_tokens": 60, **more})


async def test_by_meaning_a_fact_is_found_that_shares_no_word() -> None:
    world = World(Strategy.HYBRID, embed=Embedder(TINY))
    await world.selector.open()
    world.selector.learn(wanted())
    await world.selector.learnt()
    found = await world.selector.select(wanted())
    assert pointers(Lexical().select(STATE, "Does she have a dog?", 60)) == set()
    assert "/a/notes/0" in pointers(found.selection)
    assert (found.by, found.fallback) == ("Hybrid", "")
    assert {fact.reason for fact in found.selection.facts if fact.pointer == "/a/notes/0"} == {"its meaning"}


async def test_a_few_new_facts_are_known_at_once_and_many_in_the_background() -> None:
    world = World(Strategy.HYBRID, embed=Embedder(TINY))
    await world.selector.open()
    few = await world.selector.select(wanted(state={"a": {"notes": NOTES[:AT_ONCE]}}))
    assert (few.by, few.fallback) == ("Hybrid", "")
    many = wanted(state={"a": {"notes": [f"{note}, number {at}" for at in range(AT_ONCE) for note in NOTES]}})
    first = await world.selector.select(many)
    assert (first.by, first.fallback) == ("Lexical", "facts_not_embedded")
    await world.selector.learnt()
    second = await world.selector.select(many)
    assert (second.by, second.fallback) == ("Hybrid", "")
    assert world.fallbacks("facts_not_embedded") == 1


async def test_a_slow_or_broken_model_leaves_words() -> None:
    def slow(texts, *, asking=False):
        time.sleep(0.2)
        return Embedder(TINY)(texts, asking=asking)

    def broken(texts, *, asking=False):
        raise RuntimeError("no")

    for embed, deadline_s, reason in ((slow, 0.05, "embedding_deadline"), (broken, 30.0, "embedding_failed")):
        world = World(Strategy.HYBRID, embed=embed, deadline_s=deadline_s)
        await world.selector.open()
        found = await world.selector.select(wanted("When does the physician open?"))
        assert "/a/notes/2" in pointers(found.selection)
        assert (found.by, found.fallback) == ("Lexical", reason)
        await world.tasks.close()


async def test_until_a_model_is_loaded_and_where_there_is_none_words_answer() -> None:
    world = World(Strategy.HYBRID, embed=Embedder(TINY))
    assert (await world.selector.select(wanted())).fallback == "loading"

    async def load() -> Local:
        raise NoModel("nothing there")

    without = Selector(
        make("Hybrid"), Strategy.HYBRID, load=load, tasks=Tasks(), metrics=Metrics()
    )  # fmt: skip
    with pytest.raises(NoModel):
        await without.open()
    found = await without.select(wanted())
    assert (found.by, found.fallback) == ("Lexical", "no_model")


async def test_a_subagents_pick_is_all_there_is_beside_what_is_pinned() -> None:
    picker = Picks(("/a/notes/6", "/a/notes/1"))
    found = await World(Strategy.SUB_AGENT, picker=picker).selector.select(
        wanted("When does the physician open?", pinned=["/a/notes/7"], never=["/a/notes/3"])
    )
    assert pointers(found.selection) == {"/a/notes/7", "/a/notes/6", "/a/notes/1"}
    assert picker.offered == [[f"/a/notes/{at}" for at in (0, 1, 2, 4, 5, 6)]], "all but what is pinned or never told"
    assert (found.by, found.fallback) == ("SubAgent", "")
    assert {fact.reason for fact in found.selection.facts} == {"pinned", "picked by the model"}


async def test_a_pick_of_nothing_is_an_answer() -> None:
    found = await World(Strategy.SUB_AGENT, picker=Picks(())).selector.select(wanted("When does the physician open?"))
    assert (pointers(found.selection), found.by) == (set(), "SubAgent")


async def test_in_hybrid_the_pick_goes_first_and_words_fill_the_rest() -> None:
    hybrid = World(Strategy.HYBRID, picker=Picks(("/a/notes/6",)))
    found = await hybrid.selector.select(wanted("When does the physician open?"))
    assert {"/a/notes/6", "/a/notes/2"} <= pointers(found.selection)
    assert found.by == "Hybrid"


async def test_a_pick_keeps_within_the_budget() -> None:
    every = tuple(f"/a/notes/{at}" for at in range(8))
    found = await World(Strategy.SUB_AGENT, picker=Picks(every)).selector.select(wanted(budget_tokens=55))
    assert 0 < len(found.selection.facts) < 8
    assert found.selection.tokens <= 55
    assert "/a/notes/0" in pointers(found.selection)
    assert {one.reason for one in found.selection.dropped} == {"budget"}


async def test_without_an_answer_words_choose_and_the_model_rests_a_while() -> None:
    picker = Picks("deadline")
    world = World(Strategy.SUB_AGENT, picker=picker)
    for reason in ("deadline", "resting", "resting"):
        found = await world.selector.select(wanted("When does the physician open?"))
        assert "/a/notes/2" in pointers(found.selection)
        assert (found.by, found.fallback) == ("Lexical", reason)
    assert len(picker.offered) == 1
    assert (world.fallbacks("deadline"), world.fallbacks("resting")) == (1, 2)


async def test_nobody_is_asked_where_all_was_said() -> None:
    state = {"a": {"notes": NOTES[:2]}}
    picker = Picks()
    before = Lexical().select(state, "salary hound", 100)
    said = {fact.pointer: fact.hash for fact in before.facts}
    assert len(said) == 2
    found = await World(Strategy.SUB_AGENT, picker=picker).selector.select(wanted(state=state, said=said))
    assert (found.selection.facts, picker.offered) == ((), [])


async def test_many_ask_at_once() -> None:
    world = World(Strategy.HYBRID, embed=Embedder(TINY))
    await world.selector.open()
    states = [{"a": {"notes": [f"{note} ({at})" for note in NOTES]}} for at in range(20)]
    found = await asyncio.gather(*(world.selector.select(wanted(state=state)) for state in states))
    assert all("/a/notes/0" in pointers(one.selection) for one in found)
