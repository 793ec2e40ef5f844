"""``agentmemory region own``: the tables and buckets of a resource go to another cluster's operator."""

import asyncio
from pathlib import Path

import click
import kubernetes.config

from agentmemory_operator.kube import Cluster, KubeError, KubeUnreachable
from agentmemory_operator.own import CannotOwn, named
from agentmemory_operator.own import own as take
from agentmemory_operator.settings import Settings, SettingsError
from agentmemory_operator.tiers import TierFailed
from agentmemory_sidecar.resource import ResourceError


@click.command()
@click.argument("name")
@click.option("-n", "--namespace", default="default", show_default=True, help="The resource's namespace.")
@click.option("--settings", "file", type=click.Path(path_type=Path), help="The new owner's settings (YAML).")
@click.option("--cluster", default="", help="The new owner's clusterName; default: that of the settings.")
@click.option("--context", default="", help="The kubeconfig context to read the resource in; else the pod's cluster.")
@click.option("--dynamodb-endpoint", default="", help="DynamoDB's URL instead of the settings'.")
@click.option("--s3-endpoint", default="", help="S3's URL instead of the settings'.")
@click.option("--sts-endpoint", default="", help="STS's URL instead of the settings'.")
@click.option("--yes", is_flag=True, help="Do it; without, it is only told.")
def own(
    name: str,
    namespace: str,
    file: Path | None,
    cluster: str,
    context: str,
    dynamodb_endpoint: str,
    s3_endpoint: str,
    sts_endpoint: str,
    yes: bool,
) -> int:
    """Give the tables and buckets of the AgentMemory NAME to the operator of this cluster. The one that has them stops
    keeping them at its next look."""
    if not (file or cluster):
        raise click.UsageError("say who is to own them: --settings FILE or --cluster NAME")
    try:
        settings = named(
            Settings.read(file) if file else Settings(), cluster, dynamodb_endpoint, s3_endpoint, sts_endpoint
        )
        return asyncio.run(_own(settings, namespace, name, context, yes=yes))
    except (CannotOwn, SettingsError) as error:
        raise click.UsageError(" ".join(str(error).split())) from None
    except ResourceError as error:
        raise click.UsageError(" ".join(error.problems)) from None
    except kubernetes.config.ConfigException as error:
        raise click.UsageError(f"no cluster: {str(error).splitlines()[0]}: set KUBECONFIG or --context") from None
    except (KubeError, KubeUnreachable, TierFailed) as error:
        raise click.ClickException(f"{error}. Say it again: what is done is done") from None


async def _own(settings: Settings, namespace: str, name: str, context: str, *, yes: bool) -> int:
    kube = Cluster.connect(context)
    try:
        return 0 if await take(kube, settings, namespace, name, yes=yes, say=click.echo) else 1
    finally:
        await kube.close()
