"""``agentmemory reader``: the half of the tools service that has the stores, and no access to the cluster."""

from pathlib import Path

import click

from agentmemory_sidecar.cli.serving import LEVELS, address, log_to_stderr, run_loop, settle, told_to_stop


@click.command()
@click.option(
    "--run-dir", default="/run/agentmemory", show_default=True, type=click.Path(path_type=Path),
    help="Where its unix sockets are.",
)  # fmt: skip
@click.option(
    "--probes", default=":8378", show_default=True, help="HOST:PORT of /livez, /readyz, /metrics; no host for all."
)
@click.option("--log-level", default="INFO", show_default=True, type=click.Choice(LEVELS))
def reader(run_dir: Path, probes: str, log_level: str) -> int:
    """Open the memories that `agentmemory tools` hands in, and answer what it asks, until told to stop."""
    log_to_stderr(log_level)
    return run_loop(serve(run_dir, address(probes, 8378, everywhere=True, option="--probes")))


async def serve(run_dir: Path, probes: tuple[str, int]) -> int:
    """Until SIGINT or SIGTERM; returns the exit code."""
    from agentmemory_sidecar.app import Address
    from agentmemory_sidecar.pod.reader import SOCKET, Reader

    stop = told_to_stop()
    server = Reader(run_dir)
    try:
        await server.start(Address(*probes))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"agentmemory: cannot listen: {error.strerror or error}{where}", err=True)
        return 1
    click.echo(f"agentmemory: reads for {run_dir / SOCKET}, probes on {server.probes}")
    settle()
    try:
        await stop.wait()
    finally:
        await server.stop()
    return 0
