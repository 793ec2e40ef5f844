"""The default strategy: by words, in process, with no network and no model."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from agentmemory_sidecar.memory.fence import FRAME_CHARACTERS
from agentmemory_sidecar.memory.filter.base import NO_HINTS, Fact, Hints, Selection
from agentmemory_sidecar.memory.filter.budget import Budget
from agentmemory_sidecar.memory.filter.facts import facts_of
from agentmemory_sidecar.memory.filter.index import WEIGHTS, Index, Weights
from agentmemory_sidecar.memory.filter.pace import pace
from agentmemory_sidecar.memory.filter.prepared import LISTED, Prepared, prepare
from agentmemory_sidecar.memory.tokens import estimate

_encode = msgspec.json.Encoder().encode

KEPT_FACTS = 10_000
"""Facts in the indexes that are kept, one for each version of a state that was asked lately."""
MISSES = 60
"""How many facts that do not fit are tried before the budget counts as full."""
QUERY_LIMIT = 2_000
"""Characters of the query that are looked at: its beginning and its end, half each."""
_FRAME = (FRAME_CHARACTERS + 3) // 4


_Key = tuple[object, tuple[str, ...], tuple[str, ...]]


class Lexical:
    """See ``Filter`` and ``memory.filter.index``. Safe to share; keeps the indexes of the last states it saw."""

    def __init__(self, weights: Weights = WEIGHTS) -> None:
        self._weights = weights
        self._kept: OrderedDict[_Key, Prepared] = OrderedDict()
        """By what the states say."""
        self._seen: dict[_Key, tuple[_Key, Prepared]] = {}
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
        spent: int | None = None,
        explain: bool = False,
        hints: Hints = NO_HINTS,
    ) -> Selection:
        prepared = self._prepare(state, tuple(pinned), tuple(never))
        paced = None if spent is None else pace(spent, prepared.state_tokens, len(prepared.facts))
        budget = Budget(prepared, budget_tokens - _FRAME, said or {}, paced)
        for number in prepared.pinned:
            budget.pin(number)
        dropped = [budget.refused(number) for number in budget.cut_off] if explain else []
        if not budget.truncated and (budget.has_room or (explain and budget.has_open)):
            query = _shortened(query)
            first = [n for pointer in hints.picked if (n := prepared.numbers.get(pointer)) is not None]
            scores = {} if hints.only_picked else prepared.index.scores(query, hints.near)
            left = budget.offer([*first, *scores])
            taken = _pick(prepared, first, budget, left)
            if paced is not None and paced.near_best:
                # A fact that is found by its meaning alone has no words to score by.
                least = max(0.0 if hints.near else paced.score, paced.near_best * max(scores.values(), default=0.0))
                left = {number for number in left if scores.get(number, 0.0) >= least}
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

    def _prepare(self, state: Mapping[str, Any], pinned: tuple[str, ...], never: tuple[str, ...]) -> Prepared:
        same = (id(state), pinned, never)
        if (seen := self._seen.get(same)) is not None:
            self._kept.move_to_end(seen[0])
            return seen[1]
        data = _encode(state)
        key = (data, pinned, never)
        prepared = self._kept.get(key)
        if prepared is None:
            raw = facts_of(state, pinned, never)
            prepared = self._kept[key] = prepare(state, raw, pinned, estimate(data), self._weights)
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


def _pick(prepared: Prepared, numbers: Iterable[int], budget: Budget, left: set[int]) -> set[int]:
    """Take the facts that a model picked, in its order; returns the texts that are in by then."""
    same_text = prepared.index.same_text
    taken: set[int] = set()
    for number in numbers:
        if number in left and same_text[number] not in taken and budget.take(number, 0.0):
            left.remove(number)
            taken.add(same_text[number])
    return taken


def _why(prepared: Prepared, number: int, query: str, hints: Hints) -> str:
    """What a fact that was chosen was found by."""
    if prepared.facts[number].pointer in hints.picked:
        return "picked by the model"
    found = ", ".join(prepared.index.found_by(number, query))
    return found or ("its meaning" if hints.near and hints.near[number] > 0 else "its surroundings")


def _shortened(query: str) -> str:
    return query if len(query) <= QUERY_LIMIT else f"{query[: QUERY_LIMIT // 2]} {query[-QUERY_LIMIT // 2 :]}"
