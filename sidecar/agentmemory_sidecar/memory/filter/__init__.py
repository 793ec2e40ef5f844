"""Choosing what of the state goes into a prompt. ``make`` gives a strategy by its name."""

from agentmemory_sidecar.memory.filter.base import NO_HINTS, NOTHING, Dropped, Fact, Filter, Hints, Selection
from agentmemory_sidecar.memory.filter.lexical import Lexical
from agentmemory_sidecar.memory.filter.none import NoFilter

__all__ = [
    "NOTHING", "NO_HINTS", "Dropped", "Fact", "Filter", "Hints", "Lexical", "NoFilter", "Selection", "Unsupported", "make",
]  # fmt: skip


class Unsupported(ValueError):
    """No such strategy. The text says which there are."""


def make(strategy: str) -> Filter:
    """The filter that does the counting for the strategy of this name, in any case: ``SubAgent`` and ``Hybrid`` are
    ``Lexical`` with help (see ``step.selector``). Raises Unsupported."""
    match strategy.lower():
        case "lexical" | "subagent" | "hybrid":
            return Lexical()
        case "none":
            return NoFilter()
    raise Unsupported(f"no strategy is called {strategy!r}: use Lexical, Hybrid, SubAgent or None")
