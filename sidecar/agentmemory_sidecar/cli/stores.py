"""``agentmemory stores``: the embedded stores of a cluster, in one pod. For first tries, not for production."""

import asyncio
from pathlib import Path

import click

from agentmemory_sidecar.cli.serving import LEVELS, address, log_to_stderr, run_loop, told_to_stop

PORT = click.IntRange(1, 65535)


@click.command()
@click.option(
    "--data", default="/var/lib/agentmemory", show_default=True, type=click.Path(path_type=Path),
    help="Directory that outlives the pod.",
)  # fmt: skip
@click.option(
    "--secrets", default="/etc/agentmemory/secrets", show_default=True, type=click.Path(path_type=Path),
    help="Folder with the files valkey-password and postgres-password.",
)  # fmt: skip
@click.option("--host", default="*", show_default=True, help="Address to listen at; * for all.")
@click.option("--valkey-port", default=6379, show_default=True, type=PORT)
@click.option("--postgres-port", default=5432, show_default=True, type=PORT)
@click.option(
    "--probes",
    default=":8378",
    show_default=True,
    help="HOST:PORT of /livez, /readyz, /metrics; no host for all addresses.",
)
@click.option("--log-level", default="INFO", show_default=True, type=click.Choice(LEVELS))
def stores(
    data: Path, secrets: Path, host: str, valkey_port: int, postgres_port: int, probes: str, log_level: str
) -> int:
    """Run a Valkey and a Postgres for the sidecars of a cluster until told to stop. They have passwords, and no TLS."""
    log_to_stderr(log_level)
    probed = address(probes, 8378, everywhere=True, option="--probes")
    return run_loop(serve(data, secrets, host, valkey_port, postgres_port, probed))


async def serve(
    data: Path, secrets: Path, host: str, valkey_port: int, postgres_port: int, probes: tuple[str, int]
) -> int:
    """Until SIGINT or SIGTERM; returns the exit code."""
    import contextlib

    from aiohttp import web

    from agentmemory_sidecar.app import Address
    from agentmemory_sidecar.app import serve as listen
    from agentmemory_sidecar.metrics import Metrics
    from agentmemory_sidecar.pod.lag import Heartbeat
    from agentmemory_sidecar.pod.probes import Probes, Report
    from agentmemory_sidecar.stores.embedded.files import EmbeddedError
    from agentmemory_sidecar.stores.embedded.served import Passwords, ServedStores
    from agentmemory_sidecar.tasks import Tasks

    stop, heartbeat, tasks = told_to_stop(), Heartbeat(), Tasks()
    try:
        served = ServedStores(
            data, Passwords.read(secrets), valkey_port=valkey_port, postgres_port=postgres_port, host=host
        )
    except EmbeddedError as error:
        raise click.UsageError(str(error)) from None
    if any((secrets / name).exists() for name in ("tls.crt", "tls.key")):
        click.echo("agentmemory: the certificate is not used: the embedded servers have no TLS", err=True)
    report = Report()
    state = Probes(lambda: report, heartbeat, Metrics().registry, ready_after_s=0, require_backend=True)
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(served.stop)
        undo.push_async_callback(tasks.close)
        try:
            runner = web.AppRunner(state.app(), access_log=None, shutdown_timeout=1.0)
            await listen(runner, Address(*probes), undo)
            tasks.start(heartbeat.run(), "beat")
            starting = tasks.start(served.start(), "start the stores", awaited=True)
            stopping = tasks.start(stop.wait(), "wait for the end")
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                return 0
            starting.result()
        except EmbeddedError as error:
            click.echo(f"agentmemory: {error}", err=True)
            return 1
        except OSError as error:
            click.echo(f"agentmemory: cannot listen on {probes[0]}:{probes[1]}: {error.strerror or error}", err=True)
            return 1
        for server in served.servers:
            tasks.start(server.keep(), f"keep {server.name} running")
        report = Report(resource="stores", pings={"valkey": served.valkey.ping, "postgres": served.postgres.ping})
        click.echo(f"agentmemory: Valkey at port {valkey_port}, Postgres at port {postgres_port}: for first tries only")
        await stop.wait()
        state.stopping = True
    return 0
