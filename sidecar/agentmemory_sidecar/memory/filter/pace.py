"""How much one more injection of a conversation may say.

What is put in stays: it is sent again with each later request. A conversation that was told as much as its budget allows
with every turn would soon carry most of a large state, and cost as much as all of it. So the more it holds already, the less
is added, and the better that must fit the question.
"""

from dataclasses import dataclass
from math import log

EASE = 1_000
"""Tokens that a conversation's prompts may hold before only what fits well is added; of a large state a twentieth."""
SHARE = 20
PIECES = 4
"""A state larger than ``EASE`` is told in so many pieces at first: what one turn asks is not all that will be asked."""
LEAST = 48
"""Tokens of facts that a turn may always add."""
NEAR_BEST = 0.5
"""The share of the best fact's score that another one needs in the end."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits beyond the budget, for facts that are neither pinned nor the first to go in."""

    enough: int
    """Tokens of facts that are enough; the best fact goes in all the same."""
    score: float
    """What a fact must score at least."""
    near_best: float
    """The share of the best score that it must have."""


def pace(spent: int, state_tokens: int, facts: int) -> Pace:
    """For a conversation whose prompts hold ``spent`` tokens of a state of so many tokens and facts. In the end a fact of a
    large state must score as much as one word would give it that no other has; a small one may be told whole in time."""
    ease = max(EASE, state_tokens // SHARE)
    pieces = min(max(state_tokens / EASE, 1.0), PIECES)
    strict = min(spent / ease, 1.0) * (pieces - 1) / (PIECES - 1)
    unique = log(1 + (facts - 0.5) / 1.5) if facts else 0.0
    return Pace(max(int((ease - spent) / pieces), LEAST), strict * unique, strict * NEAR_BEST)
