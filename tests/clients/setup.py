"""Installs the real clients of these tests, pinned, each into an environment of its own under ``.venvs/``.

    python -m tests.clients.setup            every client
    python -m tests.clients.setup aimock     the named ones

Environments are of their own because the clients exclude each other (two majors of one SDK) and must not reach the
project's dependencies. An environment that is there is left alone; tests call :func:`environment`, which installs what
is missing, so running this file first only moves the waiting out of the test run.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / ".venvs"
"""Where environments are made (git-ignored)."""

INSTALL_SECONDS = 900
"""How long one package manager may take before it counts as hanging."""


class SetupError(Exception):
    """A client could not be installed; the text names what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Client:
    """One client: its packages with exact versions, and what to run to see that the environment works."""

    kind: str
    """``pip`` or ``npm``."""
    packages: tuple[str, ...]
    """``name==version`` for pip, ``name@version`` for npm."""
    proof: tuple[str, ...]
    """A command, relative to the environment, that exits 0 in a complete one."""
    after: tuple[str, ...] = ()
    """A command to run after the installation. npm may leave out install scripts, so one that matters is run here."""

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def _python(*packages: str) -> Client:
    module = packages[0].partition("==")[0].replace("-", "_")
    return Client("pip", packages, ("bin/python", "-W", "ignore", "-c", f"import {module}"))


CLIENTS = {
    "anthropic-0": _python("anthropic==0.125.0"),
    "anthropic-1": _python("anthropic==1.17.0"),
    "langchain": _python("langchain-anthropic==1.7.7", "anthropic==2.12.0"),
    "typescript": Client(
        "npm",
        ("@anthropic-ai/sdk@1.12.0",),
        ("node", "-e", "require('@anthropic-ai/sdk')"),
    ),
    "claude-code": Client(
        "npm",
        ("@anthropic-ai/claude-code@2.1.330",),
        ("node_modules/.bin/claude", "--version"),
        after=("node", "node_modules/@anthropic-ai/claude-code/install.cjs"),
    ),
    "aimock": Client("npm", ("@copilotkit/aimock@1.43.0",), ("node_modules/.bin/llmock", "--help")),
}
"""Every client by the name of its environment. The newest Python SDK is a dependency of the project's tests itself."""


def environment(name: str) -> Path:
    """The directory of client ``name``'s environment, installed first if it is not there.

    Raises :class:`SetupError` if a tool is missing or an installation fails, ``KeyError`` for an unknown name.
    """
    client = CLIENTS[name]
    directory = ROOT / name
    stamp = directory / ".complete"
    if _reads(stamp) == client.digest:
        return directory
    with _alone(name):
        if _reads(stamp) != client.digest:
            _install(name, client, directory)
            stamp.write_text(client.digest)
    return directory


def python(name: str) -> Path:
    """The interpreter of a ``pip`` client's environment; of this process for the newest SDK (``anthropic-2``)."""
    return Path(sys.executable) if name == "anthropic-2" else environment(name) / "bin" / "python"


def tool(name: str) -> str:
    """The path of a program that must be on this machine.

    Raises :class:`SetupError` if it is not on PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise SetupError(
            f"`{name}` is not on PATH, and tests with real clients need it: install Node.js 20.15 or newer with npm "
            "(https://nodejs.org/en/download, or your distribution's `nodejs` and `npm` packages)."
        )
    return found


def _install(name: str, client: Client, directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    if client.kind == "pip":
        _run(name, [sys.executable, "-m", "venv", "."], directory)
        _run(name, ["bin/python", "-m", "pip", "install", "--quiet", *client.packages], directory)
    else:
        tool("node")
        # A package.json of its own, or npm climbs to the nearest one above and installs there.
        (directory / "package.json").write_text('{"private": true}\n')
        flags = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        _run(name, [tool("npm"), "install", *flags, *client.packages], directory)
    if client.after:
        _run(name, client.after, directory)
    _run(name, client.proof, directory)


def _run(name: str, command: Sequence[str], directory: Path) -> None:
    # A relative program is looked up from the environment, whatever directory the tests run in.
    program = str(directory / command[0]) if "/" in command[0] and not command[0].startswith("/") else command[0]
    try:
        done = subprocess.run(
            [program, *command[1:]],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{name}: `{' '.join(command)}` did not end within {INSTALL_SECONDS} s") from error
    if done.returncode != 0:
        raise SetupError(
            f"{name}: `{' '.join(command)}` in {directory} ended with {done.returncode}:\n{done.stdout[-2000:]}\n"
            f"Check that the package registry can be reached, then run `python -m tests.clients.setup {name}` again."
        )


def _reads(file: Path) -> str | None:
    try:
        return file.read_text()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """One installer at a time for each environment: test processes may run side by side."""
    try:
        ROOT.mkdir(parents=True, exist_ok=True)
        lock = os.open(ROOT / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError as error:
        raise SetupError(
            f"{error.filename} cannot be written by this user, who did not make it: remove {ROOT} as the user who "
            "did, or run the tests in a clone of your own."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the named clients, or all. Exit code 1 and the reason if one fails, 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients.setup", description="Install the pinned clients.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(CLIENTS)}; none means all")
    names: list[str] = parser.parse_args(arguments).names
    unknown = [name for name in names if name not in CLIENTS]
    if unknown:
        parser.error(f"unknown client {', '.join(unknown)}; there are {', '.join(CLIENTS)}")
    for name in names or CLIENTS:
        try:
            print(f"{name}: {environment(name)}", flush=True)
        except SetupError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
