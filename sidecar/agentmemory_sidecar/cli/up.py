"""``agentmemory up``: a sidecar on this machine, in the foreground."""

import contextlib
import os
import sys
from pathlib import Path

import click

from agentmemory_sidecar.cli.resource import compiled
from agentmemory_sidecar.cli.running import Running, announce, withdraw
from agentmemory_sidecar.cli.serving import LEVELS, address, log_to_stderr, run_loop, settle, told_to_stop
from agentmemory_sidecar.resource import SidecarConfig

DEFAULT_LISTEN = "127.0.0.1:8377"


@click.command()
@click.option("-f", "--file", required=True, type=click.Path(path_type=Path), help="The AgentMemory resource (YAML).")
@click.option(
    "--listen", default=DEFAULT_LISTEN, show_default=True, help="HOST:PORT for agents; port 0 takes a free one."
)
@click.option("--admin-listen", default="127.0.0.1:0", show_default=True, help="HOST:PORT of the admin API.")
@click.option("--upstream", default="", help="Claude's base URL, instead of the resource's.")
@click.option("--data", type=click.Path(path_type=Path), help="Directory for everything kept on this machine.")
@click.option("--region", default="", help="The region this sidecar is in (default: the resource's first).")
@click.option("--name", default="", help="Which AgentMemory, if the file holds several.")
@click.option("--secrets", type=click.Path(path_type=Path), help="Folder that stands for the Secrets of a cluster.")
@click.option("--log-level", default="INFO", show_default=True, type=click.Choice(LEVELS))
def up(
    file: Path, listen: str, admin_listen: str, upstream: str, data: Path | None, region: str, name: str,
    secrets: Path | None, log_level: str,
) -> int:  # fmt: skip
    """Start the sidecar of an AgentMemory resource, with its embedded stores, until interrupted."""
    log_to_stderr(log_level)
    config = compiled(file, data=data, region=region, name=name, upstream=upstream, secrets=secrets)
    where, admin = address(listen), address(admin_listen, 0)
    return run_loop(serve(config, where, admin))


async def serve(config: SidecarConfig, listen: tuple[str, int], admin: tuple[str, int]) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    from agentmemory_sidecar.app import Address, Sidecar
    from agentmemory_sidecar.stores.embedded.files import EmbeddedError
    from agentmemory_sidecar.stores.protocols import StoreUnavailable
    from agentmemory_sidecar.tls import TlsError

    stop = told_to_stop()
    config.data_dir.mkdir(parents=True, exist_ok=True)
    sidecar = Sidecar(config)
    try:
        await sidecar.start(Address(*listen), Address(*admin))
    except (EmbeddedError, StoreUnavailable, TlsError) as error:
        click.echo(f"agentmemory: {error}", err=True)
        return 1
    except OSError as error:
        click.echo(f"agentmemory: cannot listen on {listen[0]}:{listen[1]}: {error.strerror or error}", err=True)
        return 1
    running = Running(
        f"{config.namespace}/{config.name}", f"http://{sidecar.address}", f"http://{sidecar.admin_address}",
        sidecar.token, os.getpid(),
    )  # fmt: skip
    announce(config.data_dir, running)
    click.echo(f"agentmemory: {running.name} listens on {running.url} (Claude at {config.upstream.url})")
    click.echo(f"agentmemory: point an agent at it with ANTHROPIC_BASE_URL={running.url}")
    sys.stdout.flush()
    settle()
    try:
        await stop.wait()
    finally:
        with contextlib.suppress(OSError):
            withdraw(config.data_dir)
        await sidecar.stop()
    return 0
