"""Choosing what of the state goes into a prompt. ``make`` gives a strategy by its name."""

from agentmemory_sidecar.memory.filter.base import NOTHING, Dropped, Fact, Filter, Selection
from agentmemory_sidecar.memory.filter.lexical import Lexical
from agentmemory_sidecar.memory.filter.none import NoFilter

__all__ = ["NOTHING", "Dropped", "Fact", "Filter", "Lexical", "NoFilter", "Selection", "Unsupported", "make"]

_PLANNED = {"subagent": "SubAgent", "hybrid": "Hybrid"}


class Unsupported(ValueError):
    """No such strategy, or one that is not built yet. The text says which there are."""


def make(strategy: str) -> Filter:
    """The filter of this name, in any case: ``Lexical`` or ``None``. Raises Unsupported."""
    name = strategy.lower()
    if name == "lexical":
        return Lexical()
    if name == "none":
        return NoFilter()
    if name in _PLANNED:
        raise Unsupported(f"strategy {_PLANNED[name]} is not supported yet: use Lexical or None")
    raise Unsupported(f"no strategy is called {strategy!r}: use Lexical or None")
