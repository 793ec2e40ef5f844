"""The filter with its helpers: words at once, meaning and a model's pick within their deadlines, and words alone where those
do not come. The sidecar and ``agentmemory filter`` both go through here."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agentmemory_sidecar.memory.filter.base import NOTHING, Fact, Filter, Hints, Selection
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.resource.prompt import Strategy
from agentmemory_sidecar.stores.health import Cooldown
from agentmemory_sidecar.tasks import Tasks

if TYPE_CHECKING:
    from agentmemory_sidecar.memory.filter.meaning import Embed, Meaning

log = logging.getLogger(__name__)

OFFERED_TOKENS = 24_000
"""The most that a model is given to pick from (tokens)."""
SHORTLIST = 4
"""With ``Hybrid`` it is given the best by words and meaning, as much as so many budgets."""
AT_ONCE = 8
"""New facts that are embedded together with the query; more of them wait for the background."""
BATCH = 16


class NoPick(Exception):
    """A model picked nothing that can be used. The text is a word for a metric: ``deadline``, ``refused``, …"""


class Picker(Protocol):
    """A model that picks facts."""

    async def pick(self, facts: Sequence[Fact], query: str) -> tuple[str, ...]:
        """The pointers of those that help, the best first. Raises NoPick."""
        ...

    async def open(self) -> None:
        """Make ready what takes its time, before anybody waits for a pick."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """A selection, and who made it."""

    selection: Selection = NOTHING
    by: str = ""
    """The strategy that answered; empty where nobody was asked."""
    fallback: str = ""
    """Why it was not all of the resource's strategy; empty where it was."""


NOBODY = Chosen()


def reasons(chosen: Chosen) -> dict[str, Any]:
    """Why a prompt held what it held, for the record; empty where nobody was asked. What the facts say stands in the prompt
    and the state; here are their places."""
    if not chosen.by:
        return {}
    selection = chosen.selection
    return {
        "in": [[fact.pointer, fact.tokens, fact.score, fact.reason] for fact in selection.facts],
        "out": selection.dropped,
    }


@dataclass(slots=True)
class Wanted:
    """One question to the filter; see ``Filter.select``."""

    state: Mapping[str, Any]
    query: str
    budget_tokens: int
    pinned: Sequence[str] = ()
    never: Sequence[str] = ()
    said: Mapping[str, str] = field(default_factory=dict)
    spent: int | None = None


@dataclass(slots=True)
class Local:
    """A model on this machine that tells what texts mean."""

    embed: "Embed"
    meaning: "Meaning"


class Selector:
    """A resource's strategy at work."""

    def __init__(
        self,
        words: Filter,
        strategy: Strategy,
        *,
        load: Callable[[], Awaitable[Local]] | None = None,
        deadline_s: float = 0.1,
        picker: Picker | None = None,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        """``load`` brings the embedding model; ``deadline_s`` is for the meaning of one query (seconds)."""
        self._words, self._strategy = words, strategy
        self._load, self._deadline_s = load, deadline_s
        self._picker = picker
        self._tasks, self._metrics = tasks, metrics
        self._local: Local | None = None
        self._lacking = "loading" if load else ""
        """Why there is no meaning to be had; empty where there is, or none is wanted."""
        self._learning: asyncio.Task[None] | None = None
        self._health = Cooldown(5.0, 60.0)

    async def open(self) -> None:
        """Make the helpers ready. Raises what ``load`` raises: until then, and after that, meaning counts for nothing."""
        if self._picker is not None:
            await self._picker.open()
        if self._load is None:
            return
        try:
            self._local = await self._load()
        except Exception:
            self._lacking = "no_model"
            raise
        self._lacking = ""

    async def close(self) -> None:
        if self._picker is not None:
            await self._picker.close()

    def learn(self, wanted: Wanted) -> None:
        """Have facts that are new embedded in the background, so that no question waits for them."""
        if self._local is None or (self._learning is not None and not self._learning.done()):
            return
        local, texts = self._local, self._words.searched(wanted.state, pinned=wanted.pinned, never=wanted.never)
        if local.meaning.unknown(texts):
            self._learning = self._tasks.start(_learn(local, texts), "embed facts")

    async def learnt(self) -> None:
        """Wait until all that ``learn`` was told of is embedded."""
        if self._learning is not None:
            await asyncio.wait({self._learning})

    async def select(self, wanted: Wanted) -> Chosen:
        """What goes into the prompt, within the helpers' deadlines."""
        near, lacks_meaning = await self._near(wanted)
        picked, lacks_pick = await self._picked(wanted, near)
        alone = self._strategy is Strategy.SUB_AGENT
        hints = Hints(near, picked or (), only_picked=alone and picked is not None)
        selection = self._words.select(
            wanted.state, wanted.query, wanted.budget_tokens, pinned=wanted.pinned, never=wanted.never,
            said=wanted.said, spent=wanted.spent, explain=True, hints=hints,
        )  # fmt: skip
        by = self._strategy
        if by in (Strategy.HYBRID, Strategy.SUB_AGENT) and not near and picked is None:
            by = Strategy.LEXICAL
        fallback = lacks_pick or lacks_meaning
        self._metrics.count(self._metrics.filter_answers, by.value)
        if fallback:
            self._metrics.count(self._metrics.filter_fallbacks, fallback)
        return Chosen(selection, by.value, fallback)

    async def _near(self, wanted: Wanted) -> tuple[list[float], str]:
        local = self._local
        if local is None:
            return [], self._lacking
        texts = self._words.searched(wanted.state, pinned=wanted.pinned, never=wanted.never)
        meaning, new = local.meaning, local.meaning.unknown(texts)
        behind = len(new) > AT_ONCE
        try:
            async with asyncio.timeout(self._deadline_s):
                asked = await asyncio.to_thread(local.embed, [wanted.query], asking=True)
                if new and not behind:
                    meaning.keep(new, await asyncio.to_thread(local.embed, new))
        except TimeoutError:
            self.learn(wanted)
            return [], "embedding_deadline"
        except Exception as error:  # of the model's library, whose types are not told; words still answer
            log.warning("a query could not be embedded: %s", type(error).__name__)
            return [], "embedding_failed"
        self.learn(wanted)
        return meaning.near(texts, asked), "facts_not_embedded" if behind else ""

    async def _picked(self, wanted: Wanted, near: Sequence[float]) -> tuple[tuple[str, ...] | None, str]:
        """Pointers, or None and why there are none."""
        if self._picker is None:
            return None, ""
        if not self._health.ready:
            return None, "resting"
        shortlist = SHORTLIST * wanted.budget_tokens if self._strategy is Strategy.HYBRID else OFFERED_TOKENS
        facts = self._words.candidates(
            wanted.state, wanted.query, min(shortlist, OFFERED_TOKENS),
            pinned=wanted.pinned, never=wanted.never, near=near,
        )  # fmt: skip
        if all(wanted.said.get(fact.pointer) == fact.hash for fact in facts):
            return (), ""
        try:
            picked = await self._picker.pick(facts, wanted.query)
        except NoPick as error:
            self._health.failed()
            return None, str(error)
        self._health.worked()
        return picked, ""


async def _learn(local: Local, texts: Sequence[str]) -> None:
    while new := local.meaning.unknown(texts)[:BATCH]:
        local.meaning.keep(new, await asyncio.to_thread(local.embed, new))
