"""What this process committed last: a step that follows on it need not be told by the hot tier what it knows itself.

Never trusted by itself: the hot tier says whether its copy and ledger are still the ones that the named step wrote, and
the state tier whether its versions are still theirs.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentmemory_sidecar.memory.item import Item
from agentmemory_sidecar.memory.ledger import Entry
from agentmemory_sidecar.stores.protocols import Conversation, OtherHead, Versions

MOST = 80
"""Conversations that are kept."""
LONGEST = 65_536
"""Bytes of an item (packed) beyond which it is not kept."""


@dataclass(frozen=True, slots=True)
class Recent:
    """A conversation as a step left it. Nothing in it is ever changed."""

    token: str
    """The step's, which the hot copy bears."""
    versions: Versions
    others: tuple[OtherHead, ...]
    """The other regions' heads that the item was made with."""
    item: Item
    state: dict[str, Any]
    """The item's state object, decoded."""
    ledger: Mapping[str, Entry]
    """All that the hot tier holds."""


class Recents:
    """The conversations that took a step here last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Conversation, Recent] = OrderedDict()

    def get(self, conversation: Conversation) -> Recent | None:
        return self._kept.get(conversation)

    def keep(self, conversation: Conversation, recent: Recent, size: int) -> None:
        """Keep it, if its item is not too big (``size`` in bytes), and let the oldest go."""
        self._kept.pop(conversation, None)
        if size <= LONGEST:
            self._kept[conversation] = recent
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)

    def forget(self, conversation: Conversation) -> None:
        self._kept.pop(conversation, None)
