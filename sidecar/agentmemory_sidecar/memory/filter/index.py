"""An index over facts, built once for each version of a state and asked with each prompt. Plain Python, no model.

A fact's score has these parts:

1. **Words**: BM25 over stems, with pairs of neighbouring words and word beginnings as weaker terms of their own, and the
   words of the pointer as a weak field. Speakers (``Ann: …``) are a field too.
2. **Feedback**: the rare words of the best facts are asked for as well, weakly.
3. **Surroundings**: a fact gets a share of what its neighbours in the same list have (an answer stands behind its
   question), and of what its whole conversation has (facts of one list and day).
4. **Meaning**: how near a fact is to the query for an embedding model, where there is one (``memory.filter.meaning``).
5. **Time**: dates in the query against the fact's time, times in the text for a question that asks when, and a little for
   what is newer.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, pairwise
from math import log
from weakref import WeakValueDictionary

from agentmemory_sidecar.memory.filter import times
from agentmemory_sidecar.memory.filter.facts import RawFact
from agentmemory_sidecar.memory.filter.words import asked as words_asked
from agentmemory_sidecar.memory.filter.words import content_stems, heard

_SPEAKER = re.compile(r"([^\W\d_][\w.'-]{0,30}(?: [^\W\d_][\w.'-]{0,30})?): ")
_NEWEST = re.compile(r"\b(latest|newest|most recent|recently|current(?:ly)?|now|last|still|today)\b", re.IGNORECASE)
_NEWEST_WORDS = frozenset("latest newest most recently current currently now last still today".split())  # noqa: SIM905
_NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|once|twice|dozen|hundred|thousand|couple)\b", re.IGNORECASE
)
_BLOCK = 16
"""Facts without a time are taken for one conversation in runs of this many."""


FLOOR = 0.05
"""Facts with less than this share of the best score are left out."""
CANDIDATES = 300
"""How many facts are looked at beyond their words."""
LENDERS = 100
"""How many of them lend to their neighbours."""
FEEDBACK_FACTS = 6
FEEDBACK_TERMS = 8
RARE = 0.1
"""A word that more than this share of all facts has is not asked for in feedback."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part counts, beside 1 for a word found."""

    k1: float = 1.2
    b: float = 0.4
    pair: float = 0.5
    beginning: float = 0.3
    pointer: float = 0.6
    speaker: float = 1.2
    mention: float = 0.35
    """A known speaker's name inside a text: mostly an address."""
    feedback: float = 0.15
    meaning: float = 0.6
    """What the nearest fact in meaning gets, as a share of the best score by words."""
    before: float = 0.35
    """Share of the score of the fact before; the second before has a third of it."""
    after: float = 0.25
    apart: float = 0.25
    """Factor for neighbours that are just elements of one list: no speakers, and learnt at different times."""
    question: float = 0.25
    """Added to ``before`` where the fact before asks something."""
    conversation: float = 0.35
    time: float = 0.6
    asked: float = 0.2
    """For a fact that says a time, or a number, when the question asks for one."""
    recency: float = 0.05
    newest: float = 0.3
    density: float = 0.35
    """Cost counts with this power when the budget is filled: 0 takes the best, 1 the best for each token."""
    diversity: float = 0.1
    """How much less a fact is worth whose words were all said by those taken before it."""


WEIGHTS = Weights()


class Postings:
    """One field's terms: which documents have them, and how much each is worth."""

    def __init__(
        self, documents: Sequence[Mapping[str, int]], k1: float, b: float, lengths: Sequence[int] | None = None
    ) -> None:
        """``lengths`` are how many terms each document has, where that is known."""
        lengths = lengths or [sum(document.values()) for document in documents]
        average = (sum(lengths) / len(lengths) if lengths else 1.0) or 1.0
        self.count = len(documents)
        lists: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, document in enumerate(documents):
            norm = k1 * (1 - b + b * lengths[number] / average)
            once = (number, (k1 + 1) / (1 + norm))
            for term, frequency in document.items():
                lists[term].append(once if frequency == 1 else (number, frequency * (k1 + 1) / (frequency + norm)))
        self.lists = dict(lists)

    def share(self, term: str) -> float:
        """The share of documents that have a term."""
        found = self.lists.get(term)
        return len(found) / self.count if found else 0.0

    def idf(self, term: str) -> float:
        found = self.lists.get(term)
        if found is None:
            return 0.0
        return log(1 + (self.count - len(found) + 0.5) / (len(found) + 0.5))

    def add(self, term: str, weight: float, scores: list[float]) -> None:
        """Add a term's worth to each document's score."""
        found = self.lists.get(term)
        if found is None:
            return
        worth = weight * log(1 + (self.count - len(found) + 0.5) / (len(found) + 0.5))
        for number, value in found:
            scores[number] += worth * value


@lru_cache(maxsize=8_192)
def _seen(text: str) -> tuple[str, bool, str]:
    """Who seems to speak in a text, whether it asks something, and its words for telling whether another says the same."""
    match = _SPEAKER.match(text)
    return match[1] if match else "", text.rstrip().endswith("?"), " ".join(text.lower().split())


class _Read:
    """The stems of a text, how often each term stands in it (stems, pairs of them, and beginnings of the long ones), and how
    many terms that are."""

    __slots__ = ("__weakref__", "bag", "length", "terms")

    def __init__(self, text: str) -> None:
        stems = content_stems(text)
        self.terms = frozenset(stems)
        beginnings = ["^" + term[:5] for term in self.terms if len(term) > 5]
        found = [*stems, *[f"{a} {b}" for a, b in pairwise(stems)], *beginnings]
        self.bag: dict[str, int] = dict(Counter(found))
        self.length = len(found)


_texts: WeakValueDictionary[tuple[str, int], _Read] = WeakValueDictionary()
"""What the indexes that there are have read: most facts of a state are those of the version before it."""


def _read(text: str, start: int) -> _Read:
    """A text from ``start`` on."""
    known = _texts.get((text, start))
    if known is None:
        known = _texts[text, start] = _Read(text[start:])
    return known


@lru_cache(maxsize=8_192)
def _tells_when(text: str) -> bool:
    return times.tells_when(text)


@lru_cache(maxsize=8_192)
def _has_number(text: str) -> bool:
    return _NUMBER.search(text) is not None


@lru_cache(maxsize=1_024)
def _pointer_terms(pointer: str) -> dict[str, int]:
    return dict(Counter(_pointer_stems(pointer)))


class Index:
    """See the module. Asking changes nothing that tells."""

    def __init__(self, facts: Sequence[RawFact], weights: Weights = WEIGHTS) -> None:
        self.facts = facts
        self.weights = weights
        texts = [fact.searched for fact in facts]
        seen = [_seen(text) for text in texts]
        self.speakers = _speakers(name for name, _, _ in seen)
        self.times = [times.when(fact.time) if fact.time else None for fact in facts]
        self.texts = texts
        self.asks = [asks for _, asks, _ in seen]
        lists = [_list_of(fact.pointer) for fact in facts]
        self.group, groups = _groups(lists, [fact.time for fact in facts], self.times)
        speakers = [name if name in self.speakers else "" for name, _, _ in seen]
        self.near = [
            0.0 if at == 0 or lists[at] != lists[at - 1]
            else 1.0 if (facts[at].time and facts[at].time == facts[at - 1].time) or (speakers[at] and speakers[at - 1])
            else weights.apart
            for at in range(len(facts))
        ] + [0.0, 0.0]  # fmt: skip
        numbers: dict[str, int] = {}
        self.same_text = [numbers.setdefault(plain, len(numbers)) for _, _, plain in seen]
        """Facts with one number here say the same, word for word."""

        self._read: list[_Read] = []
        said_by: list[Mapping[str, int]] = []
        in_groups: list[defaultdict[str, int]] = [defaultdict(int) for _ in range(groups)]
        nobody: Mapping[str, int] = {}
        for at, (text, speaker) in enumerate(zip(texts, speakers, strict=True)):
            read = _read(text, len(speaker) + 1 if speaker else 0)
            group = in_groups[self.group[at]]
            for term in read.terms:
                group[term] += 1
            self._read.append(read)
            said_by.append(Counter(content_stems(speaker)) if speaker else nobody)
        self.terms = [read.terms for read in self._read]
        lengths = [read.length for read in self._read]
        self.text = Postings([read.bag for read in self._read], weights.k1, weights.b, lengths)
        self.by = Postings(said_by, weights.k1, 0.0)
        self.where = Postings([_pointer_terms(_named(fact.pointer)) for fact in facts], weights.k1, 0.3)
        self.whole = Postings(in_groups, 1.2, 0.5)
        self.speaker_stems = set(self.by.lists)
        self._dear: tuple[Sequence[int], list[float]] | None = None
        """Costs that facts were offered with, and what a score is divided by for them."""

    def scores(self, query: str, near: Sequence[float] = ()) -> dict[int, float]:
        """The score of each fact that is worth a thought, by its number. ``near`` as in ``Hints``."""
        asked = [term for _, term in words_asked(query)]
        if not self.facts or not (asked or near):
            return {}
        scores = [0.0] * len(self.facts)
        self._words(asked, scores)
        self._feedback(asked, _best(scores, FEEDBACK_FACTS, 0.3), scores)
        if near:
            share = self.weights.meaning * (max(scores) or 1.0)
            scores = [score + share * part for score, part in zip(scores, near, strict=True)]
        return self._timed(query, self._surroundings(asked, scores, _best(scores, CANDIDATES, FLOOR)))

    def _words(self, asked: Sequence[str], scores: list[float]) -> None:
        weights, text, where = self.weights, self.text.lists, self.where.lists
        for term, times_asked in Counter(asked).items():
            weight = 1 + log(times_asked) if times_asked > 1 else 1.0
            if term in self.speaker_stems:
                self.by.add(term, weights.speaker * weight, scores)
                self.text.add(term, weights.mention * weight, scores)
                continue
            if term.isdigit():
                weight *= 1.2
            if term in text:
                self.text.add(term, weight, scores)
            if len(term) > 4 and (beginning := "^" + term[:5]) in text:
                self.text.add(beginning, weights.beginning * weight, scores)
            if term in where:
                self.where.add(term, weights.pointer * weight, scores)
        for a, b in pairwise(asked):
            if a in text and b in text:
                self.text.add(f"{a} {b}", weights.pair, scores)

    def _feedback(self, asked: Sequence[str], best: Sequence[int], scores: list[float]) -> None:
        weights = self.weights
        if not best or not weights.feedback:
            return
        worth: dict[str, float] = {}
        again: set[str] = set()
        for number in best:
            part = scores[number] / scores[best[0]]
            for term in self.terms[number]:
                if term in worth:
                    worth[term] += part
                    again.add(term)
                else:
                    worth[term] = part
        shared = [
            (worth[term] * self.text.idf(term), term)
            for term in again.difference(asked, self.speaker_stems)
            if self.text.share(term) < RARE
        ]
        shared.sort(reverse=True)
        found = shared[:FEEDBACK_TERMS]
        for value, term in found:
            self.text.add(term, weights.feedback * value / found[0][0], scores)

    def _surroundings(self, asked: Sequence[str], scores: Sequence[float], best: Sequence[int]) -> dict[int, float]:
        weights = self.weights
        if not best:
            return {}
        result = {number: scores[number] for number in best}
        nearness, asks, found = self.near, self.asks, result.get
        for number in best[:LENDERS]:
            score = scores[number]
            if near := nearness[number + 1]:
                gain = near * score * (weights.before + (weights.question if asks[number] else 0.0))
                result[number + 1] = found(number + 1, 0.0) + gain
                if near := nearness[number + 2]:
                    result[number + 2] = found(number + 2, 0.0) + near * gain / 3
            if near := nearness[number]:
                result[number - 1] = found(number - 1, 0.0) + near * weights.after * score
        total = [0.0] * self.whole.count
        for term in set(asked) - self.speaker_stems:
            if term in self.whole.lists:
                self.whole.add(term, 1.0, total)
        richest = max(total)
        if richest > 0:
            share = weights.conversation * scores[best[0]] / richest
            for number in result:
                result[number] += share * total[self.group[number]]
        return result

    def _timed(self, query: str, scores: dict[int, float]) -> dict[int, float]:
        weights = self.weights
        words = heard(query)
        # A look at the words first: the expressions are slow, and most queries have no date.
        asked = list(times.dates(query)) if times.may_say(words) else []
        close: dict[times.When, float] = {}
        when, number_asked = times.asks_when(words), times.asks_number(words)
        newest = not _NEWEST_WORDS.isdisjoint(words) and _NEWEST.search(query) is not None
        newer = (weights.newest if newest else weights.recency) / len(self.facts)
        if not asked and not when and not number_asked:
            return {number: score * (1 + newer * number) for number, score in scores.items()}
        for number, score in scores.items():
            factor = 1 + newer * number
            told = self.times[number]
            if asked and told is not None:
                if told not in close:
                    close[told] = max(times.closeness(told, one) for one in asked)
                factor += weights.time * close[told]
            if (when and _tells_when(self.texts[number])) or (number_asked and _has_number(self.texts[number])):
                factor += weights.asked
            scores[number] = score * factor
        return scores

    def in_order(self, scores: Mapping[int, float], costs: Sequence[int], query: str) -> Iterator[int]:
        """Facts in the order in which a budget should take them: by score, dear ones later, and later too what repeats those
        before it (beyond the words that were asked for). A fact counts as said once it was given out."""
        weights = self.weights
        if self._dear is None or self._dear[0] is not costs:
            self._dear = costs, [max(cost, 8) ** weights.density for cost in costs]
        dear = self._dear[1]
        heap = [(-score / dear[number], -number, False) for number, score in scores.items()]
        heapq.heapify(heap)
        skipped = {term for _, term in words_asked(query)} | self.speaker_stems
        said: set[str] = set()
        terms, pop = self.terms, heapq.heappop
        while heap:
            worth, number, seen = pop(heap)
            own = terms[-number] - skipped
            if not seen and not own.isdisjoint(said):
                again = len(own & said) / len(own)
                if again > 0.3:
                    heapq.heappush(heap, (worth * (1 - weights.diversity * again), number, True))
                    continue
            yield -number
            said |= own

    def found_by(self, number: int, query: str) -> list[str]:
        """The query's words that a fact has, for explaining."""
        own = self.terms[number]
        return sorted({word for word, term in words_asked(query) if term in own})


def _best(scores: Sequence[float], count: int, share: float) -> list[int]:
    """The numbers of at most ``count`` facts, best first, that have more than this share of the best score."""
    floor = max(scores) * share
    found = [number for number in compress(range(len(scores)), scores) if scores[number] > floor]
    found.sort(key=scores.__getitem__, reverse=True)
    return found[:count]


def _speakers(names: Iterable[str]) -> set[str]:
    """Names that begin several facts, as in a transcript."""
    return {name for name, count in Counter(names).items() if name and count >= 3}


def _groups(parents: Sequence[str], labels: Sequence[str], told: Sequence[times.When | None]) -> tuple[list[int], int]:
    """The conversation each fact belongs to: neighbours of one list and one day, or a run of facts without times."""
    numbers: list[int] = []
    number, run = -1, 0
    before: tuple[object, ...] = ()
    for parent, label, when in zip(parents, labels, told, strict=True):
        here = (parent, when or label)
        if here != before or (not label and run >= _BLOCK):
            number, run = number + 1, 0
        before, run = here, run + 1
        numbers.append(number)
    return numbers, number + 1


def _list_of(pointer: str) -> str:
    """The list that a fact is an element of; for a member of an object, the member itself."""
    parent, _, name = pointer.rpartition("/")
    return parent if name.isdecimal() else pointer


def _named(pointer: str) -> str:
    """The pointer without a list's numbers, which say nothing."""
    parent, _, name = pointer.rpartition("/")
    return parent if name.isdecimal() else pointer


def _pointer_stems(pointer: str) -> list[str]:
    return [term for term in content_stems(pointer.replace("_", " ").replace("/", " ")) if not term.isdigit()]
