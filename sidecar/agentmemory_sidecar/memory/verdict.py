"""What a reply's stop reason allows: whether the turn is saved, whether it changes the state, whether it ends the turn.

From the API's documentation of stop reasons: a tool input cut by ``max_tokens`` parses as a valid partial object, so it
must not change the state; a ``pause_turn`` reply is sent back as it is to go on; a compaction holds no answer.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """``commit``: the turn is saved. ``apply``: its tool calls may change the state. ``ends``: the turn is over."""

    commit: bool
    apply: bool
    ends: bool


_VERDICTS = {
    "end_turn": Verdict(commit=True, apply=True, ends=True),
    "stop_sequence": Verdict(commit=True, apply=True, ends=True),
    "tool_use": Verdict(commit=True, apply=True, ends=False),
    "pause_turn": Verdict(commit=True, apply=False, ends=False),
    "max_tokens": Verdict(commit=True, apply=False, ends=True),
    "model_context_window_exceeded": Verdict(commit=True, apply=False, ends=True),
    "refusal": Verdict(commit=False, apply=False, ends=True),
    "compaction": Verdict(commit=False, apply=False, ends=True),
}


def verdict(stop_reason: str) -> Verdict:
    """A stop reason that is not known yet is saved, so that nothing said is lost, but changes no state."""
    return _VERDICTS.get(stop_reason, Verdict(commit=True, apply=False, ends=True))
