"""What a drill wrote down. All times are seconds on one monotonic clock, the driver's."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one attempt of a turn."""

    ACKNOWLEDGED = "acknowledged"
    """200, and the receipt says that it is saved."""
    REFUSED = "refused"
    """An answer that says that it is not."""
    LOST = "lost"
    """No answer: nobody knows."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request. Tries of one turn in one region share a note, and so are the same request, unless an agent was lost that
    may have had the answer."""

    writer: str
    number: int
    """The turn's, from 1 on, for each writer."""
    note: str
    """What it adds to the state's list: writer, number and region. Empty for the step that ends a turn."""
    region: str
    began_s: float
    ended_s: float
    outcome: Outcome
    said: str = ""
    """Why it was refused or lost: an error code or a status."""
    replayed: bool = False
    """Acknowledged with the stored reply of an earlier try, which had been saved though its answer was lost."""
    mark: str = ""
    """What it set the state's one mark to; empty for none."""


AWAY = ("region", "pause")
"""Kinds of a fault that take all of a region away, so that its sessions go on in another."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done. ``region`` is the one that was hit, empty for the link between regions."""

    kind: str
    region: str
    began_s: float
    """When it was ordered: it took effect a little later."""
    healed_s: float
    """When everything was undone."""
    detail: str = ""
    """What else is to be known of it."""


@dataclass(frozen=True, slots=True)
class View:
    """A session as one region's sidecar shows it."""

    region: str
    session: str
    notes: tuple[str, ...]
    marks: tuple[str, ...]
    """The mark that stands, and those that conflicts keep beside it."""
    state: str
    """The whole state as JSON text, without the region that read it."""


@dataclass(frozen=True, slots=True)
class Run:
    """A drill's record, to be evaluated."""

    regions: tuple[str, ...]
    sessions: dict[str, str]
    """Writer to its session; several may share one."""
    attempts: tuple[Attempt, ...]
    fault: Fault
    at_failover: tuple[View, ...]
    """What a region that was not hit showed at once after the fault."""
    final: tuple[View, ...]
    """Every session in every region, once healed."""
    ended_s: float

    def steps(self, writers: Iterable[str] | None = None) -> list[Attempt]:
        """All that was acknowledged, in time's order."""
        chosen = set(self.sessions if writers is None else writers)
        found = (each for each in self.attempts if each.outcome is Outcome.ACKNOWLEDGED and each.writer in chosen)
        return sorted(found, key=lambda each: each.ended_s)

    def acknowledged(self, writers: Iterable[str] | None = None) -> list[Attempt]:
        """Those of it that brought a note."""
        return [each for each in self.steps(writers) if each.note]
