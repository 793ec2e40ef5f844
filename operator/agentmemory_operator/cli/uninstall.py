"""`agentmemory operator-uninstall`: run by the chart, as a hook, before `helm uninstall` deletes anything."""

import asyncio
from pathlib import Path

import click

from agentmemory_operator.settings import Settings, SettingsError


@click.command("operator-uninstall")
@click.option("--settings", "file", required=True, type=click.Path(path_type=Path), help="The installation's settings.")
@click.option("--deployment", required=True, help="The operator's Deployment.")
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="How long its pods may take to end (s).")
@click.option("--force", is_flag=True, help="Let go of AgentMemory resources, which stay as they are with their data.")
@click.option("--context", default="", help="The kubeconfig context; without it, the pod's own cluster.")
def uninstall(file: Path, deployment: str, timeout_s: float, force: bool, context: str) -> None:
    """Get an installation ready to be deleted. Refuses while there are AgentMemory resources, unless told."""
    from agentmemory_operator.kube import Cluster, KubeError, KubeUnreachable
    from agentmemory_operator.uninstall import Installed, Refused
    from agentmemory_operator.uninstall import uninstall as prepare

    try:
        installed = Installed(Settings.read(file), deployment)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error

    async def run() -> None:
        kube = Cluster.connect(context)
        try:
            await prepare(kube, installed, force=force, timeout_s=timeout_s, say=click.echo)
        finally:
            await kube.close()

    try:
        asyncio.run(run())
    except (Refused, TimeoutError, KubeError, KubeUnreachable) as error:
        raise click.ClickException(str(error)) from error
