"""``agentmemory run``: a command with the environment its Claude client needs, through the sidecar."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import click

from agentmemory_sidecar.cli.resource import compiled
from agentmemory_sidecar.cli.running import Running, read
from agentmemory_sidecar.resource import SidecarConfig

READY_S = 90.0
"""A first start makes a database."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-f", "--file", required=True, type=click.Path(path_type=Path), help="The AgentMemory resource (YAML).")
@click.option("--session", default="", help="The session of all requests of this command.")
@click.option("--upstream", default="", help="Claude's base URL, instead of the resource's.")
@click.option("--data", type=click.Path(path_type=Path), help="Directory for everything kept on this machine.")
@click.option("--region", default="", help="The region the sidecar is in (default: the resource's first).")
@click.option("--name", default="", help="Which AgentMemory, if the file holds several.")
@click.option("--secrets", type=click.Path(path_type=Path), help="Folder that stands for the Secrets of a cluster.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    file: Path, session: str, upstream: str, data: Path | None, region: str, name: str, secrets: Path | None,
    command: tuple[str, ...],
) -> int:  # fmt: skip
    """Run COMMAND with its Claude traffic through the sidecar, which is started if none runs. Its exit code is ours."""
    config = compiled(file, data=data, region=region, name=name, upstream=upstream, secrets=secrets)
    given = {"--upstream": upstream, "--region": region, "--name": name, "--secrets": str(secrets or "")}
    with sidecar(config, file, given) as running:
        environment = dict(os.environ) | client_environment(running.url, session, config, os.environ)
        try:
            process = subprocess.Popen(command, env=environment)  # noqa: S603 - running it is what was asked for
        except OSError as error:
            raise click.UsageError(f"cannot run {command[0]}: {error.strerror}") from error
        with _passing_signals(process):
            return _exit_code(process.wait())


def client_environment(url: str, session: str, config: SidecarConfig, present: Mapping[str, str]) -> dict[str, str]:
    """The variables by which each client finds its base URL and says which session it is.

    Most SDKs add ``/v1`` themselves; the proxy takes both forms, so the one variable serves them all.
    """
    variables = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_URL": url,
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
    }
    if session and config.identity.session_headers:
        header = f"{config.identity.session_headers[0]}: {session}"
        before = present.get("ANTHROPIC_CUSTOM_HEADERS", "")
        variables["ANTHROPIC_CUSTOM_HEADERS"] = f"{before}\n{header}".strip()
    elif session:
        variables["ANTHROPIC_BASE_URL"] = variables["ANTHROPIC_API_URL"] = f"{url}/s/{quote(session, safe='')}"
    return variables


@contextlib.contextmanager
def sidecar(config: SidecarConfig, file: Path, given: Mapping[str, str]) -> Iterator[Running]:
    """The sidecar that runs on this data directory, or one started for as long as the command runs, with the options that
    were given (empty ones were not)."""
    if (running := read(config.data_dir)) is not None:
        yield running
        return
    config.data_dir.mkdir(parents=True, exist_ok=True)
    log = config.data_dir / "sidecar.log"
    arguments = ["up", "-f", str(file), "--listen", "127.0.0.1:0", "--data", str(config.data_dir)]
    arguments += [part for option, value in given.items() if value for part in (option, value)]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "agentmemory_sidecar.cli", *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield _wait(config.data_dir, process, log)
    finally:
        process.terminate()
        process.wait()


def _wait(directory: Path, process: "subprocess.Popen[bytes]", log: Path) -> Running:
    deadline = time.monotonic() + READY_S
    while (running := read(directory)) is None or running.pid != process.pid:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it wrote nothing"]
            raise click.ClickException(f"the sidecar did not start: {last[0]} (its log: {log})")
        if time.monotonic() > deadline:
            raise click.ClickException(f"the sidecar was not ready after {READY_S:.0f} s (its log: {log})")
        time.sleep(0.05)
    return running


@contextlib.contextmanager
def _passing_signals(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Ctrl-C reaches the command by itself (same terminal); a SIGTERM for us is meant for it."""
    handlers = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code
