"""Claude Code in print mode, in a home directory of its own, with its own tools on files in a work directory."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clients import setup
from tests.clients.driving import DriverFailed, bare_environment, run

TOOLS = ("Agent", "Bash", "Read", "TodoWrite", "Write")
"""Named, so that they are offered at once and not behind a tool search. ``TodoWrite`` is the older form of the task
tools and takes their place with CLAUDE_CODE_ENABLE_TASKS=0."""

QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}
"""Keeps it from calling anything but the base URL; none of this is needed to work with a sidecar."""


@dataclass(frozen=True, slots=True)
class Result:
    """What ``claude -p --output-format json`` reports."""

    text: str
    stop_reason: str | None
    turns: int
    """Requests of the main conversation."""
    error: bool
    denials: int
    """Tool uses it refused to run."""
    session: str
    usage: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClaudeCode:
    """One installation on one machine: its home holds the transcripts that ``--resume`` needs."""

    base_url: str
    home: Path
    work: Path
    """Where it runs, and whose files its tools see."""
    headers: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables."""

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)

    def ask(self, prompt: str, *arguments: str, tools: Sequence[str] = TOOLS) -> Result:
        """One ``claude -p``; ``arguments`` such as ``--session-id ID`` or ``--resume ID``.

        Raises ``DriverFailed`` if it prints no result. An API error is a result with ``error`` set.
        """
        environment = {
            **bare_environment(self.base_url, self.home),
            **QUIET,
            "CLAUDE_CONFIG_DIR": str(self.home / "claude"),
            "CLAUDE_CODE_ENABLE_TASKS": "0" if "TodoWrite" in tools else "1",
            **self.settings,
        }
        if self.headers:
            lines = (f"{name}: {value}" for name, value in self.headers.items())
            environment["ANTHROPIC_CUSTOM_HEADERS"] = "\n".join(lines)
        program = setup.environment("claude-code") / "node_modules" / ".bin" / "claude"
        # Root may not skip permissions, so each tool is allowed by name instead.
        flags = ["--output-format", "json", "--tools", ",".join(tools), "--allowedTools", ",".join(tools)]
        output = run([str(program), "-p", prompt, *flags, *arguments], environment, self.work, accept=(0, 1))
        return _result(output)


def _result(output: str) -> Result:
    try:
        found = json.loads(output)
        return Result(
            text=found["result"],
            stop_reason=found["stop_reason"],
            turns=found["num_turns"],
            error=found["is_error"],
            denials=len(found["permission_denials"]),
            session=found["session_id"],
            usage=found["usage"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DriverFailed(f"Claude Code printed no result: {output[-3000:]!r}") from error
