"""The strategy that injects nothing, and still tells what the state would cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agentmemory_sidecar.memory.filter.base import Selection
from agentmemory_sidecar.memory.tokens import estimate


class NoFilter:
    """See ``Filter``."""

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
        return Selection(state_tokens=estimate(msgspec.json.encode(state)))
