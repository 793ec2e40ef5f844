"""``agentmemory webhook``: the process that the API server asks about pods."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import click

from agentmemory_operator.settings import SettingsError
from agentmemory_operator.webhook.server import Listen, Webhook


class Address(click.ParamType[Listen]):
    """HOST:PORT, [HOST]:PORT or :PORT for all addresses."""

    name = "HOST:PORT"

    def convert(self, value: str | Listen, param: click.Parameter | None, ctx: click.Context | None) -> Listen:
        if isinstance(value, Listen):
            return value
        host, colon, port = value.rpartition(":")
        if not (colon and port.isdigit() and int(port) < 65536):
            self.fail(f"must be HOST:PORT with a port from 0 to 65535, not {value!r}", param, ctx)
        return Listen(host.strip("[]"), int(port))


@click.command()
@click.option("--settings", required=True, type=click.Path(path_type=Path), help="The installation's settings (YAML).")
@click.option(
    "--cert-dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with tls.crt and tls.key; read anew on change.",
)
@click.option("--listen", default="0.0.0.0:8443", show_default=True, type=Address(), help="Where the API server calls.")
@click.option(
    "--probes", default="0.0.0.0:8080", show_default=True, type=Address(), help="/livez, /readyz and /metrics."
)
@click.option("--linger", default=5.0, show_default=True, help="Seconds to take requests after SIGTERM.")
@click.option("--drain", default=10.0, show_default=True, help="Seconds that running requests have to end after that.")
@click.option(
    "--log-level", default="INFO", show_default=True, type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"])
)
def webhook(
    settings: Path, cert_dir: Path, listen: Listen, probes: Listen, linger: float, drain: float, log_level: str
) -> None:
    """Serve the injection webhook until SIGTERM."""
    logging.basicConfig(level=log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        server = Webhook(settings, cert_dir)
        asyncio.run(_serve(server, listen, probes, linger, drain))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from None


async def _serve(server: Webhook, listen: Listen, probes: Listen, linger: float, drain: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await server.serve(listen, probes, stop, linger_s=linger, drain_s=drain)
