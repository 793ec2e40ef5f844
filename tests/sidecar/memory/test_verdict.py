"""Facts section 1.2, row by row: what a stop reason allows."""

import pytest

from agentmemory_sidecar.memory.verdict import Verdict, verdict


@pytest.mark.parametrize(
    ("reason", "commit", "apply", "ends"),
    [
        ("end_turn", True, True, True),
        ("stop_sequence", True, True, True),
        ("tool_use", True, True, False),
        ("pause_turn", True, False, False),
        ("max_tokens", True, False, True),
        ("model_context_window_exceeded", True, False, True),
        ("refusal", False, False, True),
        ("compaction", False, False, True),
        ("invented_later", True, False, True),
    ],
)
def test_stop_reason_decides(reason: str, commit: bool, apply: bool, ends: bool) -> None:
    assert verdict(reason) == Verdict(commit=commit, apply=apply, ends=ends)
