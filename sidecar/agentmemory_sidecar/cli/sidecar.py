"""``agentmemory sidecar``: a sidecar in a pod, on the configuration that the operator mounts into it."""

import os
from dataclasses import replace
from pathlib import Path

import click

from agentmemory_sidecar.cli.serving import LEVELS, address, log_to_stderr, run_loop, settle, told_to_stop


@click.command()
@click.option(
    "--config-dir", default="/etc/agentmemory/config", show_default=True, type=click.Path(path_type=Path),
    help="Where the configuration's Secret is mounted.",
)  # fmt: skip
@click.option("--listen", default="127.0.0.1:8377", show_default=True, help="HOST:PORT for agents.")
@click.option(
    "--probes",
    default=":8378",
    show_default=True,
    help="HOST:PORT of /livez, /readyz, /metrics; no host for all addresses.",
)
@click.option(
    "--admin-socket", default="/run/agentmemory/admin.sock", show_default=True, type=click.Path(path_type=Path),
    help="Unix socket of the admin API.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path), help="Directory that outlives the sidecar, for stores of its own."
)
@click.option("--require-backend", is_flag=True, help="Never ready without a configuration whose stores answer.")
@click.option(
    "--ready-after", default=20.0, show_default=True, type=click.FloatRange(min=0), metavar="SECONDS",
    help="Ready after so long whatever is wrong.",
)  # fmt: skip
@click.option("--log-level", default="INFO", show_default=True, type=click.Choice(LEVELS))
def sidecar(
    config_dir: Path, listen: str, probes: str, admin_socket: Path, data: Path | None, require_backend: bool,
    ready_after: float, log_level: str,
) -> int:  # fmt: skip
    """Serve the agents of a pod until told to stop. The configuration may come later, and may change."""
    log_to_stderr(log_level)
    where, probed = address(listen), address(probes, 8378, everywhere=True, option="--probes")
    return run_loop(serve(config_dir, where, probed, admin_socket, data, require_backend, ready_after))


async def serve(
    config_dir: Path, listen: tuple[str, int], probes: tuple[str, int], admin_socket: Path, data: Path | None,
    require_backend: bool, ready_after_s: float,
) -> int:  # fmt: skip
    """Until SIGINT or SIGTERM; returns the exit code."""
    from agentmemory_sidecar.app import Address
    from agentmemory_sidecar.pod.environment import Environment
    from agentmemory_sidecar.pod.life import Pod

    stop = told_to_stop()
    around = Environment.read(os.environ)
    around = replace(around, require_backend=around.require_backend or require_backend)
    pod = Pod(config_dir, around, data=data, ready_after_s=ready_after_s)
    try:
        await pod.start(Address(*listen), Address(*probes), admin_socket)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"agentmemory: cannot listen: {error.strerror or error}{where}", err=True)
        return 1
    click.echo(f"agentmemory: listens on http://{pod.address}, probes on {pod.probes_address}, admin on {admin_socket}")
    settle()
    try:
        await stop.wait()
    finally:
        await pod.stop()
    return 0
