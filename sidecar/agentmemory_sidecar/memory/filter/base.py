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


class Dropped(msgspec.Struct, frozen=True):
    """A fact that stayed out, and why: ``said`` (an earlier injection says it), ``budget``, ``duplicate``."""

    pointer: str
    tokens: int
    score: float
    reason: str


class Selection(msgspec.Struct, frozen=True):
    """What goes in: pinned facts first, the others in the state's own order."""

    facts: tuple[Fact, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    """Relevant facts that stayed out, best first; those with nothing in common with the query are not listed."""
    tokens: int = 0
    """An upper bound of what ``render`` makes of it, frame included; never above the budget."""
    state_tokens: int = 0
    """What the whole state would cost."""
    truncated: bool = False
    """The pinned facts alone were too many: the last one that fits is cut, those after it are dropped."""


NOTHING = Selection()


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
        explain: bool = False,
    ) -> Selection:
        """Choose facts for ``query`` within ``budget_tokens``.

        ``pinned`` and ``never`` are JSON pointers of parts that always (in this order) or never go in; ``never`` wins.
        ``said`` is what earlier injections say, pointer to value hash: the same value is not said again. With ``explain``
        the reasons are filled in, and what stayed out is listed.
        """
        ...
