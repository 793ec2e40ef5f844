"""Finished turns that no model has read yet, and what reading them may cost.

They are named in the conversation's own item, and taken out by the write that brings what was learnt from them: so a turn
counts once, whoever reads it and however often its reader is killed.
"""

from collections.abc import Sequence

import msgspec

from agentmemory_sidecar.memory.tokens import estimate

MOST = 200
"""Unread turns that an item names; the oldest are let go. Their records stay in the archive."""
DAY_S = 86_400
AT_ONCE = 20
"""Turns of one batch."""
AT_ONCE_TOKENS = 16_000
"""Tokens of them (an estimate); one turn is always read, however long it is."""


class Unread(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn."""

    turn: str
    at: float
    """When it ended (seconds since the epoch)."""
    first: int = 0
    last: int = 0
    """Its records in the conversation's chain."""


class Spent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was spent in one day."""

    day: int = 0
    """Days since the epoch (UTC)."""
    tokens: int = 0


def with_turn(unread: Sequence[Unread], ended: Unread) -> list[Unread]:
    """The list with a turn that has ended. The same turn again is not a second one: a client may go on with it after its
    end."""
    known = next((one for one in unread if one.turn == ended.turn), ended)
    others = [one for one in unread if one.turn != ended.turn]
    return [*others, Unread(ended.turn, ended.at, min(known.first, ended.first), ended.last)][-MOST:]


def due_at(unread: Sequence[Unread], every_turns: int, idle_s: float) -> float | None:
    """When the turns are to be read (seconds since the epoch): as soon as there are enough, or nothing came for so long.
    None where there is none."""
    if not unread:
        return None
    return unread[-1].at + (0.0 if len(unread) >= every_turns else idle_s)


def fitting(texts: Sequence[str], most: int = AT_ONCE) -> int:
    """How many of these turns, from the first on, are read at once."""
    tokens = 0
    for count, text in enumerate(texts[:most]):
        tokens += estimate(text)
        if count and tokens > AT_ONCE_TOKENS:
            return count
    return min(len(texts), most)


def day_of(now: float) -> int:
    return int(now // DAY_S)


def tomorrow(now: float) -> float:
    """When the next day begins (seconds since the epoch)."""
    return float((day_of(now) + 1) * DAY_S)


def spent_today(spent: Spent, now: float) -> int:
    """Tokens that were spent on this day."""
    return spent.tokens if spent.day == day_of(now) else 0


def spend(spent: Spent, now: float, tokens: int) -> Spent:
    return Spent(day_of(now), spent_today(spent, now) + tokens)
