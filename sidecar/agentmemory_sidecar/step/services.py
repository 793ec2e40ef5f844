"""What a step works with: the stores, Claude, the clock and the settings, put together once when the sidecar starts."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentmemory_sidecar.archive.keys import KeyStore
from agentmemory_sidecar.archive.outbox import Archiver
from agentmemory_sidecar.memory.rules import Rules
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.step.exchange import Upstream
from agentmemory_sidecar.step.overheard import Overheard
from agentmemory_sidecar.step.patches import Patches
from agentmemory_sidecar.step.recent import Recents
from agentmemory_sidecar.step.renewals import Renewals
from agentmemory_sidecar.step.selector import Selector
from agentmemory_sidecar.stores.health import Cooldown
from agentmemory_sidecar.stores.protocols import HotStore, ObjectStore, StateStore
from agentmemory_sidecar.tasks import Tasks
from agentmemory_sidecar.wire.identify import IdentityRules
from agentmemory_sidecar.wire.request import Newest

if TYPE_CHECKING:
    from agentmemory_sidecar.step.extractor import Extractor


@dataclass(slots=True)
class Services:
    """Shared by all steps of one sidecar."""

    config: SidecarConfig
    rules: IdentityRules
    hot: HotStore
    state: StateStore
    blobs: ObjectStore
    records: ObjectStore
    keys: KeyStore
    archiver: Archiver
    patches: Patches
    renewals: Renewals
    upstream: Upstream
    filter: Selector
    extraction_rules: Rules
    metrics: Metrics
    tasks: Tasks
    pod: str
    extractor: "Extractor | None" = None
    """What reads finished turns, where the resource has a model for that."""
    state_ttl_s: int | None = None
    now: Callable[[], float] = time.time
    """Seconds since the epoch."""
    hot_health: Cooldown = field(default_factory=lambda: Cooldown(1.0))
    state_health: Cooldown = field(default_factory=lambda: Cooldown(2.0, 30.0))
    elsewhere: tuple["Services", ...] = ()
    """The same, but with the state tier's endpoint of another region; in the order in which they are turned to."""
    substitute: bool = False
    """Whether these are such ones: their state tier's endpoint is another region's."""
    blob_health: Cooldown = field(default_factory=lambda: Cooldown(5.0))
    unreleased: set[str] = field(default_factory=set)
    """Tokens of ended steps whose locks could not be released: whoever meets one of these locks may."""
    recents: Recents = field(default_factory=Recents)
    """What this process committed last, so that it need not be told it."""
    newest: Newest = field(default_factory=Newest)
    """The requests that came last, for those that continue them."""
    flights: set["Flight"] = field(default_factory=set)
    """Steps that run now."""
    overheard: set[Overheard] = field(default_factory=set)
    """In shadow mode: the answers that steps watch now."""

    def at_hand(self) -> "Services":
        """Those whose state tier is not known to be away, this region's first."""
        return next((each for each in (self, *self.elsewhere) if each.state_health.ready), self)

    @property
    def writer(self) -> str:
        """Whose chain of records a write goes on: the head's, where there are several, for it goes with the item."""
        return self.state.head if self.config.many_heads else self.config.region


class Flight:
    """A step that runs. ``cancel`` stops it, unless it is being saved: then it ends by itself in a moment."""

    __slots__ = ("_stays", "left", "saving", "task")

    def __init__(self, task: "asyncio.Task[None] | None" = None, *, stays: bool = False) -> None:
        self.task = task
        self._stays = stays
        self.saving = False
        self.left = False
        """Whether the client has gone before its answer was complete."""

    def cancel(self) -> None:
        if self.task is not None and not self.saving:
            self.task.cancel()

    def leave(self) -> None:
        """The client has gone. With ``stays`` the step goes on though nobody hears it any more."""
        self.left = True
        if not self._stays:
            self.cancel()
