"""What is found out about a state before anybody asks: its facts, their costs, and the index over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.fence import entry_line, heading_line
from agentmemory_sidecar.memory.filter.base import Dropped, Fact
from agentmemory_sidecar.memory.filter.facts import RawFact
from agentmemory_sidecar.memory.filter.index import Index, Weights
from agentmemory_sidecar.memory.tokens import estimate

LISTED = 20
"""How many facts that stayed out are told of."""


@dataclass(slots=True)
class Prepared:
    """One state. Only ``state`` ever changes: it is whichever object of this content was asked about last."""

    state: Mapping[str, Any]
    index: Index
    facts: list[Fact]
    """With their costs, without a heading."""
    costs: list[int]
    headings: list[int]
    """What the heading above each fact costs."""
    parents: list[str]
    places: list[str]
    """Where each fact stands, the same for all elements of a list."""
    numbers: dict[str, int]
    """Each fact's number by its pointer."""
    searched: tuple[str, ...]
    pinned: list[int]
    """Facts that go in first, in their order."""
    cheapest: int
    state_tokens: int
    all_said: list[Dropped]
    """What stays out where everything was said."""


def prepare(
    state: Mapping[str, Any], raw: list[RawFact], pinned: Sequence[str], state_tokens: int, weights: Weights
) -> Prepared:
    facts, headings = [], []
    for one in raw:
        fact = Fact(one.pointer, one.text, one.hash)
        facts.append(with_(fact, 0.0, tokens=estimate(entry_line(fact.pointer, fact.text))))
        headings.append(estimate(heading_line(one.pointer.rpartition("/")[0])))
    costs = [fact.tokens for fact in facts]
    first = [n for outer in pinned for n, fact in enumerate(facts) if ptr.covers(outer, fact.pointer)]
    return Prepared(
        state=state,
        index=Index(raw, weights),
        facts=facts,
        costs=costs,
        headings=headings,
        parents=[fact.pointer.rpartition("/")[0] for fact in facts],
        places=[place_of(fact.pointer) for fact in facts],
        numbers={fact.pointer: number for number, fact in enumerate(facts)},
        searched=tuple(_described(one) for one in raw),
        pinned=list(dict.fromkeys(first)),
        cheapest=min(costs, default=0),
        state_tokens=state_tokens,
        all_said=[Dropped(fact.pointer, fact.tokens, 0.0, "said") for fact in facts[:LISTED]],
    )


def with_(
    fact: Fact, score: float, *, pinned: bool = False, text: str | None = None, tokens: int | None = None
) -> Fact:
    return Fact(
        fact.pointer, fact.text if text is None else text, fact.hash, fact.tokens if tokens is None else tokens,
        round(score, 4), pinned,
    )  # fmt: skip


def _described(fact: RawFact) -> str:
    """A fact in words: a member of an object with its name, which tells what it is about."""
    name = fact.pointer.rpartition("/")[2]
    return fact.searched if name.isdecimal() else f"{name.replace('_', ' ')}: {fact.searched}"


@lru_cache(maxsize=8_192)
def place_of(pointer: str) -> str:
    """An element of a list counts as said wherever in its list it stands by now."""
    parent, _, name = pointer.rpartition("/")
    return parent + "/-" if name.isdecimal() else pointer
