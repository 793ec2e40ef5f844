"""``agentmemory tools``: the half of the tools service that asks the API server who may look at what."""

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import click
from aiohttp import web

from agentmemory_operator.cli.webhook import Address
from agentmemory_operator.kube import Cluster
from agentmemory_operator.names import TOOLS_PORT
from agentmemory_operator.settings import Settings, SettingsError
from agentmemory_operator.tools.server import Tools
from agentmemory_operator.webhook.server import Listen

DRAIN_S = 20.0


@click.command()
@click.option("--settings", "file", required=True, type=click.Path(path_type=Path), help="The installation's settings.")
@click.option(
    "--run-dir", default="/run/agentmemory", show_default=True, type=click.Path(path_type=Path),
    help="Where the reader's unix sockets are.",
)  # fmt: skip
@click.option(
    "--listen", default=f"127.0.0.1:{TOOLS_PORT}", show_default=True, type=Address(), help="Where port-forwards arrive."
)
@click.option(
    "--probes", default="0.0.0.0:8080", show_default=True, type=Address(), help="/livez, /readyz and /metrics."
)
@click.option(
    "--api-tokens/--no-api-tokens", default=True, show_default=True,
    help="Whether tokens for the API server will do, too, or only those for this service.",
)  # fmt: skip
@click.option(
    "--log-level", default="INFO", show_default=True, type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"])
)
def tools(file: Path, run_dir: Path, listen: Listen, probes: Listen, api_tokens: bool, log_level: str) -> None:
    """Serve `agentmemory -n NAMESPACE session …` until SIGTERM; `agentmemory reader` must run beside it."""
    logging.basicConfig(level=log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("agentmemory.access").setLevel(logging.INFO)
    try:
        asyncio.run(_serve(Settings.read(file), run_dir, listen, probes, api_tokens))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from None


async def _serve(settings: Settings, run_dir: Path, listen: Listen, probes: Listen, api_tokens: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube = Cluster.connect()
    server = Tools(kube, settings, run_dir, api_tokens=api_tokens)
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(kube.close)
        for app, where in ((server.probes(), probes), (server.app(), listen)):
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=DRAIN_S)
            await runner.setup()
            undo.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, where.host or None, where.port).start()
        await stop.wait()
