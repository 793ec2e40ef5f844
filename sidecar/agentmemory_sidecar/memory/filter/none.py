"""The strategy that looks for nothing: only what is pinned goes in."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentmemory_sidecar.memory.filter.base import Selection
from agentmemory_sidecar.memory.filter.lexical import Lexical


class NoFilter:
    """See ``Filter``. Pinned fields are taken as by ``Lexical``, which finds nothing else for an empty query."""

    def __init__(self) -> None:
        self._pinned = Lexical()

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
        return self._pinned.select(state, "", budget_tokens, pinned=pinned, never=never, said=said, explain=explain)
