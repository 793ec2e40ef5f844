"""``agentmemory operator``: the operator, in a pod or on this machine."""

import asyncio
import logging
import sys
from pathlib import Path

import click

from agentmemory_operator.settings import Settings, SettingsError


@click.command()
@click.option("--settings", "file", type=click.Path(path_type=Path), help="The installation's settings (YAML).")
@click.option("--probes", default="0.0.0.0:8080", show_default=True, help="HOST:PORT for probes and metrics.")
@click.option(
    "--log-level", default="INFO", show_default=True, type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"])
)
def operator(file: Path | None, probes: str, log_level: str) -> int:
    """Run the operator until it is told to stop. Several may run: one leads, the others wait."""
    from agentmemory_operator.app import run

    logging.basicConfig(level=log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("kopf", "urllib3", "botocore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = Settings.read(file) if file else Settings()
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    host, _, port = probes.rpartition(":")
    if not port.isdigit():
        raise click.UsageError(f"--probes must be HOST:PORT, not {probes!r}")
    return asyncio.run(run(settings, (host.strip("[]"), int(port))))
