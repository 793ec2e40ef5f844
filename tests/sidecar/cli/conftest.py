"""The command as a person has it: the installed script, in a process of its own."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentmemory_sidecar.cli.main import main
from tests.claude.fixtures import ClaudeProcess

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart.yaml"
PROGRAM = [sys.executable, "-m", "agentmemory_sidecar.cli"]


@dataclass
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of bad input."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("agentmemory: ")
        return line.removeprefix("agentmemory: ")


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run("session", "list", …)``: a whole command, on a machine without any sidecar unless ``home`` says other."""

    def call(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Ran:
        variables = {**os.environ, "AGENTMEMORY_HOME": str(tmp_path / "home"), **(env or {})}
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=variables, timeout=300, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The same for bad input, in this process: it ends before anything is started."""

    def call(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Ran:
        for name, value in {"AGENTMEMORY_HOME": str(tmp_path / "home"), **(env or {})}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["agentmemory", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        return Ran(int(left.value.code or 0), out, err)

    return call


@dataclass
class Laptop:
    """A running ``agentmemory up`` with embedded stores."""

    process: "subprocess.Popen[str]"
    data: Path
    url: str = ""
    lines: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def laptop(servers_directory: Path, _claude_process: ClaudeProcess) -> Iterator[Laptop]:
    """``agentmemory up -f examples/quickstart.yaml`` in front of the strict Claude's process."""
    data = servers_directory / f"laptop-{uuid.uuid4().hex[:8]}"
    arguments = ["up", "-f", str(QUICKSTART), "--listen", "127.0.0.1:0", "--data", str(data)]
    with (servers_directory / "laptop.log").open("w") as log:
        process = subprocess.Popen(
            [*PROGRAM, *arguments, "--upstream", _claude_process.url], stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout is not None
        found = Laptop(process, data)
        while not found.url:
            line = process.stdout.readline()
            assert line, (servers_directory / "laptop.log").read_text()
            found.lines.append(line)
            if match := re.search(r"ANTHROPIC_BASE_URL=(\S+)", line):
                found.url = match[1]
        yield found
        process.terminate()
        code = process.wait(60)
        process.stdout.close()
    assert code == 0
