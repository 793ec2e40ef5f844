"""The default strategy: by words, in process, with no network and no model."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import nlargest
from typing import Any

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.fence import FRAME_CHARACTERS, entry_line, heading_line
from agentmemory_sidecar.memory.filter.base import NO_HINTS, Dropped, Fact, Hints, Selection
from agentmemory_sidecar.memory.filter.facts import RawFact, facts_of
from agentmemory_sidecar.memory.filter.index import WEIGHTS, Index, Weights
from agentmemory_sidecar.memory.tokens import estimate

_encode = msgspec.json.Encoder().encode

KEPT_FACTS = 10_000
"""Facts in the indexes that are kept, one for each version of a state that was asked lately."""
LISTED = 20
"""How many facts that stayed out are told of."""
MISSES = 60
"""How many facts that do not fit are tried before the budget counts as full."""
QUERY_LIMIT = 2_000
"""Characters of the query that are looked at: its beginning and its end, half each."""
_FRAME = (FRAME_CHARACTERS + 3) // 4


_Key = tuple[object, tuple[str, ...], tuple[str, ...]]


@dataclass(slots=True)
class _Prepared:
    """What is found out about a state before anybody asks. Only ``state`` ever changes: it is whichever object of this
    content was asked about last."""

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


class Lexical:
    """See ``Filter`` and ``memory.filter.index``. Safe to share; keeps the indexes of the last states it saw."""

    def __init__(self, weights: Weights = WEIGHTS) -> None:
        self._weights = weights
        self._kept: OrderedDict[_Key, _Prepared] = OrderedDict()
        """By what the states say."""
        self._seen: dict[_Key, tuple[_Key, _Prepared]] = {}
        """The same by the objects' identity, with the key above: a session's next question is about the very same one."""

    def select(
        self,
        state: Mapping[str, Any],
        query: str,
        budget_tokens: int,
        *,
        pinned: Sequence[str] = (),
        never: Sequence[str] = (),
        said: Mapping[str, str] | None = None,
        explain: bool = False,
        hints: Hints = NO_HINTS,
    ) -> Selection:
        prepared = self._prepare(state, tuple(pinned), tuple(never))
        budget = _Budget(prepared, budget_tokens - _FRAME, _said(said or {}))
        for number in prepared.pinned:
            budget.pin(number)
        dropped = [budget.refused(number) for number in budget.cut_off] if explain else []
        if not budget.truncated and (budget.has_room or (explain and budget.has_open)):
            query = _shortened(query)
            first = [n for pointer in hints.picked if (n := prepared.numbers.get(pointer)) is not None]
            scores = {} if hints.only_picked else prepared.index.scores(query, hints.near)
            left = budget.offer([*first, *scores])
            taken = _pick(prepared, first, budget, left)
            fill(prepared.index, query, scores, prepared.costs, budget.take, taken, left)
            if explain:
                dropped += budget.stayed_out(dict.fromkeys(first, 0.0) | scores, taken)
        elif explain and not budget.truncated:
            dropped = prepared.all_said
        facts = budget.chosen((lambda number: _why(prepared, number, query, hints)) if explain else None)
        tokens = budget.used + _FRAME if facts else 0
        return Selection(facts, tuple(dropped[:LISTED]), tokens, prepared.state_tokens, budget.truncated)

    def searched(
        self, state: Mapping[str, Any], *, pinned: Sequence[str] = (), never: Sequence[str] = ()
    ) -> tuple[str, ...]:
        return self._prepare(state, tuple(pinned), tuple(never)).searched

    def candidates(
        self,
        state: Mapping[str, Any],
        query: str,
        tokens: int,
        *,
        pinned: Sequence[str] = (),
        never: Sequence[str] = (),
        near: Sequence[float] = (),
    ) -> list[Fact]:
        prepared = self._prepare(state, tuple(pinned), tuple(never))
        costs = [fact.tokens + len(fact.pointer) // 4 + 1 for fact in prepared.facts]
        out = set(prepared.pinned)
        numbers = [number for number in range(len(costs)) if number not in out]
        if sum(costs[number] for number in numbers) > tokens:
            scores = prepared.index.scores(_shortened(query), near)
            best = sorted((n for n in scores if n not in out), key=scores.__getitem__, reverse=True)
            left, numbers = tokens, []
            for number in best:
                if costs[number] <= left:
                    left -= costs[number]
                    numbers.append(number)
            numbers.sort()
        return [prepared.facts[number] for number in numbers]

    def _prepare(self, state: Mapping[str, Any], pinned: tuple[str, ...], never: tuple[str, ...]) -> _Prepared:
        same = (id(state), pinned, never)
        if (seen := self._seen.get(same)) is not None:
            self._kept.move_to_end(seen[0])
            return seen[1]
        data = _encode(state)
        key = (data, pinned, never)
        prepared = self._kept.get(key)
        if prepared is None:
            raw = facts_of(state, pinned, never)
            prepared = self._kept[key] = _build(state, raw, pinned, estimate(data), self._weights)
            total = sum(len(kept.facts) for kept in self._kept.values())
            while len(self._kept) > 1 and total > KEPT_FACTS:
                gone, old = self._kept.popitem(last=False)
                del self._seen[id(old.state), *gone[1:]]
                total -= len(old.facts)
        else:
            self._kept.move_to_end(key)
            del self._seen[id(prepared.state), pinned, never]
            prepared.state = state  # an object that is held here: nobody else can have its identity
        self._seen[same] = key, prepared
        return prepared


def fill(
    index: Index,
    query: str,
    scores: Mapping[int, float],
    costs: Sequence[int],
    take: Callable[[int, float], bool | None],
    taken: set[int] | None = None,
    left: set[int] | None = None,
) -> None:
    """Offer facts in order of worth, but none that says word for word what a taken one says.

    ``scores`` are the index's own for the query. ``take`` tells whether it took the fact, or None to stop; what does not
    fit leaves room for smaller ones behind it. ``taken`` are the texts (``Index.same_text``) that are in already, ``left``
    the facts that may go in, by default all; both are brought up to date.
    """
    taken = set() if taken is None else taken
    left = set(scores) if left is None else left
    misses = 0
    for number in index.in_order(scores, costs, query) if left else ():
        if number not in left:
            continue
        left.remove(number)
        same = index.same_text[number]
        if same not in taken:
            took = take(number, scores[number])
            if took is None:
                return
            if took:
                taken.add(same)
            else:
                misses += 1
        if misses > MISSES or not left:
            return


def _pick(prepared: _Prepared, numbers: Iterable[int], budget: "_Budget", left: set[int]) -> set[int]:
    """Take the facts that a model picked, in its order; returns the texts that are in by then."""
    same_text = prepared.index.same_text
    taken: set[int] = set()
    for number in numbers:
        if number in left and same_text[number] not in taken and budget.take(number, 0.0):
            left.remove(number)
            taken.add(same_text[number])
    return taken


def _why(prepared: _Prepared, number: int, query: str, hints: Hints) -> str:
    """What a fact that was chosen was found by."""
    if prepared.facts[number].pointer in hints.picked:
        return "picked by the model"
    found = ", ".join(prepared.index.found_by(number, query))
    return found or ("its meaning" if hints.near and hints.near[number] > 0 else "its surroundings")


class _Budget:
    """Takes facts while they fit."""

    def __init__(self, prepared: _Prepared, tokens: int, said: set[tuple[str, str]]) -> None:
        self._prepared = prepared
        self._left = tokens
        self._cheapest = prepared.cheapest
        self._said = said
        self._facts: dict[int, Fact] = {}
        self._under: set[str] = set()
        self._pinned: list[int] = []
        self.cut_off: list[int] = []
        """Pinned facts that stayed out."""
        self.used = 0
        self.truncated = False

    @property
    def has_room(self) -> bool:
        """Whether any fact could go in. In a long conversation all of a small state is said."""
        costs, left = self._prepared.costs, self._left
        return left >= self._prepared.cheapest and any(costs[n] <= left for n in self._open(range(len(costs))))

    @property
    def has_open(self) -> bool:
        """Whether there is any fact that neither is in nor was said."""
        return any(True for _ in self._open(range(len(self._prepared.costs))))

    def offer(self, numbers: Iterable[int]) -> set[int]:
        """These facts were found, only they will be offered from here on. Returns those that may go in: neither taken nor
        said."""
        left = set(self._open(numbers))
        self._cheapest = min(map(self._prepared.costs.__getitem__, left), default=0)
        return left

    def _open(self, numbers: Iterable[int]) -> Iterator[int]:
        facts, places, said = self._prepared.facts, self._prepared.places, self._said
        for number in numbers:
            if number not in self._facts and (not said or (places[number], facts[number].hash) not in said):
                yield number

    def pin(self, number: int) -> None:
        """Take a pinned fact, cut to what is left if it must be."""
        fact = self._prepared.facts[number]
        if number in self._facts:
            return
        if self._is_said(number, fact):
            self.cut_off.append(number)
            return
        cost = self._cost(number, fact)
        if cost > self._left and not self.truncated:
            self.truncated = True
            fact, cost = self._cut(number, fact)
        if cost > self._left or not fact.text:
            self.cut_off.append(number)
            return
        self._pinned.append(number)
        self._put(number, _with(fact, 0.0, pinned=True), cost)

    def take(self, number: int, score: float) -> bool | None:
        """Take a fact by its score; False where it does not fit, None where no other fits either."""
        if self._left < self._cheapest:
            return None
        fact = self._prepared.facts[number]
        cost = self._cost(number, fact)
        if cost > self._left:
            return False
        self._put(number, _with(fact, score), cost)
        return True

    def stayed_out(self, scores: Mapping[int, float], taken: set[int]) -> list[Dropped]:
        """The best of the facts that were found and are not in; ``taken`` are the texts that are."""
        out = [number for number in scores if number not in self._facts and number not in self.cut_off]
        same_text = self._prepared.index.same_text
        return [
            self.refused(number, scores[number], "duplicate" if same_text[number] in taken else "budget")
            for number in nlargest(LISTED, out, key=scores.__getitem__)
        ]

    def refused(self, number: int, score: float = 0.0, why: str = "budget") -> Dropped:
        """A fact that stayed out, for the reason given unless it was said."""
        fact = self._prepared.facts[number]
        why = "said" if self._is_said(number, fact) else why
        return Dropped(fact.pointer, fact.tokens, round(score, 4), why)

    def chosen(self, found_by: Callable[[int], str] | None) -> tuple[Fact, ...]:
        """Pinned facts in their order, then the others in the state's, those of one parent together."""
        first: dict[str, int] = {}
        parents = self._prepared.parents
        others = sorted(number for number in self._facts if not self._facts[number].pinned)
        for number in others:
            first.setdefault(parents[number], number)
        others.sort(key=lambda number: (first[parents[number]], number))
        facts = [self._facts[number] for number in (*self._pinned, *others)]
        if found_by is not None:
            reasons = ["pinned"] * len(self._pinned)
            reasons += [found_by(number) for number in others]
            facts = [_because(fact, reason) for fact, reason in zip(facts, reasons, strict=True)]
        return tuple(facts)

    def _cost(self, number: int, fact: Fact) -> int:
        # A heading may stand twice, among the pinned and among the others.
        return fact.tokens + (0 if self._prepared.parents[number] in self._under else self._prepared.headings[number])

    def _put(self, number: int, fact: Fact, cost: int) -> None:
        self._facts[number] = fact
        self._left -= cost
        self.used += cost
        if not fact.pinned:
            self._under.add(self._prepared.parents[number])

    def _cut(self, number: int, fact: Fact) -> tuple[Fact, int]:
        """As much of the text as fits."""
        room = self._left - self._prepared.headings[number]
        low, high = 0, len(fact.text)
        while low < high:
            middle = (low + high + 1) // 2
            if estimate(entry_line(fact.pointer, fact.text[:middle] + "…")) <= room:
                low = middle
            else:
                high = middle - 1
        cut = _with(fact, 0.0, text=fact.text[:low] + "…" if low else "")
        return cut, estimate(entry_line(cut.pointer, cut.text)) + self._prepared.headings[number]

    def _is_said(self, number: int, fact: Fact) -> bool:
        return (self._prepared.places[number], fact.hash) in self._said


def _build(
    state: Mapping[str, Any], raw: list[RawFact], pinned: Sequence[str], state_tokens: int, weights: Weights
) -> _Prepared:
    facts, headings = [], []
    for one in raw:
        fact = Fact(one.pointer, one.text, one.hash)
        facts.append(_with(fact, 0.0, tokens=estimate(entry_line(fact.pointer, fact.text))))
        headings.append(estimate(heading_line(one.pointer.rpartition("/")[0])))
    costs = [fact.tokens for fact in facts]
    first = [n for outer in pinned for n, fact in enumerate(facts) if ptr.covers(outer, fact.pointer)]
    return _Prepared(
        state=state,
        index=Index(raw, weights),
        facts=facts,
        costs=costs,
        headings=headings,
        parents=[fact.pointer.rpartition("/")[0] for fact in facts],
        places=[_place(fact.pointer) for fact in facts],
        numbers={fact.pointer: number for number, fact in enumerate(facts)},
        searched=tuple(_described(one) for one in raw),
        pinned=list(dict.fromkeys(first)),
        cheapest=min(costs, default=0),
        state_tokens=state_tokens,
        all_said=[Dropped(fact.pointer, fact.tokens, 0.0, "said") for fact in facts[:LISTED]],
    )


def _with(
    fact: Fact, score: float, *, pinned: bool = False, text: str | None = None, tokens: int | None = None
) -> Fact:
    return Fact(
        fact.pointer, fact.text if text is None else text, fact.hash, fact.tokens if tokens is None else tokens,
        round(score, 4), pinned,
    )  # fmt: skip


def _because(fact: Fact, reason: str) -> Fact:
    return Fact(fact.pointer, fact.text, fact.hash, fact.tokens, fact.score, fact.pinned, reason)


def _described(fact: RawFact) -> str:
    """A fact in words: a member of an object with its name, which tells what it is about."""
    name = fact.pointer.rpartition("/")[2]
    return fact.searched if name.isdecimal() else f"{name.replace('_', ' ')}: {fact.searched}"


def _said(said: Mapping[str, str]) -> set[tuple[str, str]]:
    return {(_place(pointer), value) for pointer, value in said.items()}


@lru_cache(maxsize=8_192)
def _place(pointer: str) -> str:
    """An element of a list counts as said wherever in its list it stands by now."""
    parent, _, name = pointer.rpartition("/")
    return parent + "/-" if name.isdecimal() else pointer


def _shortened(query: str) -> str:
    return query if len(query) <= QUERY_LIMIT else f"{query[: QUERY_LIMIT // 2]} {query[-QUERY_LIMIT // 2 :]}"
