"""A strict stand-in for the Claude API: validates, signs thinking, models the prompt cache and misbehaves on request.

``python -m tests.claude`` serves it in a process of its own; :class:`StrictClaude` serves it in a test's event loop.
It shares no code with the sidecar, so that it can disagree with it.
"""

from tests.claude.faults import Fault
from tests.claude.options import Options
from tests.claude.record import Recorded
from tests.claude.replies import Match, Reply
from tests.claude.server import StrictClaude

__all__ = ["Fault", "Match", "Options", "Recorded", "Reply", "StrictClaude"]
