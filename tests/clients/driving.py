"""Runs a client's driver in a process of its own and reads its summaries.

Scenarios go to the driver's standard input, one line of JSON each, with the fields of :class:`Scenario`. The driver
holds one conversation after the other, since starting a client costs more than most conversations, and lives until its
input ends. For each scenario it prints one line: ``{"replies": [{"text", "thinking", "tools": [{"name", "input"}],
"stop_reason"}], "errors": [{"type", "status", "message"}], "usage": {…}}``, with one reply for each request, and usage
summed over them as Claude reports it (cached tokens apart from ``input_tokens``).
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.clients import setup

DRIVERS = Path(__file__).parent / "drivers"
SESSION_HEADER = "X-Agent-Session"
MODEL = "claude-opus-5-5"
"""A model whose thinking is bound to the exact prefix."""
RULES = "You plan journeys. " + " ".join(f"Rule {number} of the house: be brief and exact." for number in range(120))
SECONDS = 120
"""A driver that takes longer hangs."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One conversation of one agent."""

    session: str
    """The session id, which the driver puts into ANTHROPIC_CUSTOM_HEADERS."""
    turns: tuple[str, ...]
    """The user's messages. The strict Claude's directives in them decide what it answers."""
    way: str = "stream"
    """How the driver calls Claude: ``json``, ``stream``, ``runner`` or ``runner-stream``."""
    system: str = RULES
    """Long enough to be cached. The driver puts the session before it, so that conversations share no cache entry."""
    model: str = MODEL
    tools: tuple[Mapping[str, Any], ...] = ()
    """Tools that the agent declares beside its own, and has no code for."""
    attempts: int = 1
    """How often the driver tries a turn, besides the client's own retries, before it gives the conversation up."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a client saw."""

    replies: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    usage: dict[str, int]

    @property
    def text(self) -> str:
        """The last reply's text; empty if there was none."""
        return self.replies[-1]["text"] if self.replies else ""


class DriverFailed(AssertionError):
    """The driver itself failed, not the conversation it was to hold."""


def bare_environment(base_url: str, home: Path) -> dict[str, str]:
    """The environment of an agent that knows of no sidecar: where Claude is, and a key."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_API_KEY": "sk-ant-test",
    }


def drive(client: str, base_url: str, home: Path, *scenarios: Scenario) -> list[Summary]:
    """Hold the conversations with ``client`` (a name of ``setup.CLIENTS`` or ``anthropic-2``) against ``base_url``.

    Raises :class:`DriverFailed` if the driver ends otherwise than by answers or API errors.
    """
    command, environment = driver(client, base_url, home)
    output = run(command, environment, home, "".join(line(scenario) for scenario in scenarios))
    summaries = [summary(printed) for printed in output.splitlines()]
    if len(summaries) != len(scenarios):
        raise DriverFailed(f"the driver of {client} printed {len(summaries)} summaries: {output[-2000:]!r}")
    return summaries


def driver(client: str, base_url: str, home: Path) -> tuple[list[str], dict[str, str]]:
    """The command and environment of a client's driver."""
    environment = bare_environment(base_url, home)
    if client == "typescript":
        environment["CLIENT_ENVIRONMENT"] = str(setup.environment(client))
        return [setup.tool("node"), str(DRIVERS / "sdk.mjs")], environment
    script = "langchain.py" if client == "langchain" else "sdk.py"
    # Isolated: no packages of the user's, and not the driver's directory, whose files would shadow packages.
    return [str(setup.python(client)), "-I", str(DRIVERS / script)], environment


@contextlib.contextmanager
def living(client: str, base_url: str, home: Path) -> Iterator["Living"]:
    """An agent that stays alive between conversations, until it is killed or the block ends."""
    command, environment = driver(client, base_url, home)
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, cwd=home, stdin=pipe, stdout=pipe, text=True)
    with process:
        try:
            yield Living(process)
        finally:
            process.kill()


class Living:
    """See :func:`living`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def hold(self, scenario: Scenario) -> Summary:
        """Hold one conversation; the agent then waits for the next."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line(scenario))
        self._process.stdin.flush()
        return summary(self._process.stdout.readline())

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait()


def line(scenario: Scenario) -> str:
    """A scenario as a driver reads it."""
    return json.dumps(asdict(scenario)) + "\n"


def summary(printed: str) -> Summary:
    """A driver's summary from the line it printed."""
    try:
        return Summary(**json.loads(printed))
    except (ValueError, TypeError) as error:
        raise DriverFailed(f"the driver printed no summary: {printed[-2000:]!r}") from error


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    given: str = "",
    accept: Collection[int] = (0,),
) -> str:
    """Standard output of ``command``; raises :class:`DriverFailed` with both outputs if it hangs or fails.

    ``accept`` are the exit codes that are no failure.
    """
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            cwd=directory,
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DriverFailed(f"{command[0]} hung for {SECONDS} s; so far: {error.stdout!r} {error.stderr!r}") from error
    if done.returncode not in accept:
        raise DriverFailed(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout
