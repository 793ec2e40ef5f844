"""The strategy that looks for nothing: only what is pinned goes in."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentmemory_sidecar.memory.filter.base import NO_HINTS, Fact, Hints, Selection
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
        spent: int | None = None,
        explain: bool = False,
        hints: Hints = NO_HINTS,
    ) -> Selection:
        return self._pinned.select(state, "", budget_tokens, pinned=pinned, never=never, said=said, explain=explain)

    def searched(
        self, state: Mapping[str, Any], *, pinned: Sequence[str] = (), never: Sequence[str] = ()
    ) -> tuple[str, ...]:
        return ()

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
        return []
