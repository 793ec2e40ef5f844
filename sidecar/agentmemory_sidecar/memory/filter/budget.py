"""Taking facts while they fit, and saying why others stayed out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest

from agentmemory_sidecar.memory.fence import entry_line
from agentmemory_sidecar.memory.filter.base import Dropped, Fact
from agentmemory_sidecar.memory.filter.pace import Pace
from agentmemory_sidecar.memory.filter.prepared import LISTED, Prepared, place_of, with_
from agentmemory_sidecar.memory.tokens import estimate


class Budget:
    """Takes facts while they fit."""

    def __init__(self, prepared: Prepared, tokens: int, said: Mapping[str, str], paced: Pace | None) -> None:
        self._prepared = prepared
        self._left = tokens
        self._enough = paced.enough if paced else tokens
        self._paced = paced is not None
        self._cheapest = prepared.cheapest
        self._said = {(place_of(pointer), value) for pointer, value in said.items()}
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
        self._put(number, with_(fact, 0.0, pinned=True), cost)

    def take(self, number: int, score: float) -> bool | None:
        """Take a fact by its score; False where it does not fit, None where no other fits either."""
        if self._left < self._cheapest or self._enough < 0:
            return None
        fact = self._prepared.facts[number]
        cost = self._cost(number, fact)
        if cost > self._left or (fact.tokens > self._enough and len(self._facts) > len(self._pinned)):
            return False
        self._enough -= fact.tokens
        self._put(number, with_(fact, score), cost)
        return True

    def stayed_out(self, scores: Mapping[int, float], taken: set[int]) -> list[Dropped]:
        """The best of the facts that were found and are not in; ``taken`` are the texts that are."""
        out = [number for number in scores if number not in self._facts and number not in self.cut_off]
        best = nlargest(LISTED, out, key=scores.__getitem__)
        return [self.refused(number, scores[number], self._why_not(number, taken)) for number in best]

    def _why_not(self, number: int, taken: set[int]) -> str:
        if self._prepared.index.same_text[number] in taken:
            return "duplicate"
        fits = self._paced and self._cost(number, self._prepared.facts[number]) <= self._left
        return "enough" if fits else "budget"

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
        cut = with_(fact, 0.0, text=fact.text[:low] + "…" if low else "")
        return cut, estimate(entry_line(cut.pointer, cut.text)) + self._prepared.headings[number]

    def _is_said(self, number: int, fact: Fact) -> bool:
        return (self._prepared.places[number], fact.hash) in self._said


def _because(fact: Fact, reason: str) -> Fact:
    return Fact(fact.pointer, fact.text, fact.hash, fact.tokens, fact.score, fact.pinned, reason)
