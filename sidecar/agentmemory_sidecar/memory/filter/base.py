"""What a filter is: from a state, what was asked and a token budget, to the facts that go into the prompt."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class Fact(msgspec.Struct, frozen=True):
    """One thing the state knows: a leaf, an element of a list, or a small object."""

    pointer: str
    text: str
    """What the prompt would say of it, without its pointer; not yet made safe for a prompt (see ``memory.render``)."""
    hash: str = ""
    """Of the value: tells whether the same was already said."""
    tokens: int = 0
    """What it costs in the prompt."""
    score: float = 0.0
    pinned: bool = False
    reason: str = ""
    """Why it is in: ``pinned``, or the words that it was found by."""


class Dropped(msgspec.Struct, frozen=True, array_like=True):
    """A fact that stayed out, and why: ``said`` (an earlier injection says it), ``budget``, ``duplicate``, ``enough`` (there
    was room, but the conversation holds much already, and others fit better)."""

    pointer: str
    tokens: int
    score: float
    reason: str


class Selection(msgspec.Struct, frozen=True):
    """What goes in: pinned facts first, the others in the state's own order."""

    facts: tuple[Fact, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    """Relevant facts that stayed out, best first; those with nothing in common with the query are not listed. Where an
    earlier injection says all there is, nothing is compared with the query, and they stand in the state's order."""
    tokens: int = 0
    """An upper bound of what ``render`` makes of it, frame included; never above the budget."""
    state_tokens: int = 0
    """What the whole state would cost."""
    truncated: bool = False
    """The pinned facts alone were too many: the last one that fits is cut, those after it are dropped."""


NOTHING = Selection()


class Hints(msgspec.Struct, frozen=True):
    """What others found out about the same state and query, for a filter to go by."""

    near: Sequence[float] = ()
    """How near each fact is to the query in meaning, 0 (no nearer than most) to 1 (the nearest), in the order of
    ``Filter.searched``; empty where nobody knows."""
    picked: tuple[str, ...] = ()
    """Pointers of the facts that a model picked, the most wanted first."""
    only_picked: bool = False
    """Nothing but those and what is pinned goes in."""


NO_HINTS = Hints()


class Filter(Protocol):
    """A strategy. The same call serves the sidecar and ``agentmemory filter``."""

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
        """Choose facts for ``query`` within ``budget_tokens``.

        ``pinned`` and ``never`` are JSON pointers of parts that always (in this order) or never go in; ``never`` wins.
        ``said`` is what earlier injections say, pointer to value hash: the same value is not said again. ``spent`` is how
        many tokens of the state the conversation's prompts hold: the more, the less is added (see ``memory.filter.pace``);
        None for a question by itself, which may fill its budget. With ``explain`` the reasons are filled in, and what stayed
        out is listed. A state that was asked about is not changed any more: what was found out about it is used again for
        the same object.
        """
        ...

    def searched(
        self, state: Mapping[str, Any], *, pinned: Sequence[str] = (), never: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """The texts of all facts, as far as a look for meaning needs them; the same object for the same state."""
        ...

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
        """What a model may pick from, in the state's order: all that is not pinned, or of too much the best ``tokens``."""
        ...
