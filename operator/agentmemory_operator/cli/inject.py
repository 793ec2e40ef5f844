"""``agentmemory inject KIND/NAME``: ask for the sidecar in a workload that runs already, or take it back."""

import asyncio

import click
import kubernetes.config

from agentmemory_operator.inject.options import PREFIX, Options, OptionsError
from agentmemory_operator.inject.workload import (
    Target,
    WorkloadError,
    consequence,
    problem,
    target,
    template_patch,
)
from agentmemory_operator.kube import KINDS, Cluster, Kind, Kube, KubeError, KubeUnreachable, NotFound


@click.command()
@click.argument("workload", metavar="KIND/NAME")
@click.option("-n", "--namespace", default="", help="The workload's namespace (default: the kubeconfig's).")
@click.option("--memory", default="", help="Which AgentMemory of the namespace to use (annotation memory).")
@click.option("--session", default="", help="The pods' session: a literal or a template (annotation session).")
@click.option("--undo", is_flag=True, help="Take the label and the annotations away.")
@click.option("--dry-run", is_flag=True, help="Let the API server check the change, and change nothing.")
@click.option("--context", default="", help="The kubeconfig context.")
def inject(
    workload: str, namespace: str, memory: str, session: str, undo: bool, dry_run: bool, context: str
) -> None:  # fmt: skip
    """Set the label agentmemory.io/inject on a workload's pod template: KIND is deploy, sts, ds or cj."""
    if undo and (memory or session):
        raise click.UsageError("--undo takes all annotations away: leave out --memory and --session")
    annotations = {name: value for name, value in (("memory", memory), ("session", session)) if value}
    try:
        wanted = target(workload)
        Options.read({PREFIX + name: value for name, value in annotations.items()})
        lines = asyncio.run(_change(wanted, namespace, annotations, undo, dry_run, context))
    except (WorkloadError, OptionsError) as error:
        raise click.UsageError(str(error)) from None
    except kubernetes.config.ConfigException as error:
        raise click.UsageError(f"no cluster: {str(error).splitlines()[0]}: set KUBECONFIG or --context") from None
    except (KubeError, KubeUnreachable) as error:
        raise click.ClickException(str(error)) from None
    click.echo("\n".join(lines))


async def _change(
    wanted: Target, namespace: str, annotations: dict[str, str], undo: bool, dry_run: bool, context: str
) -> list[str]:
    cluster = Cluster.connect(context)
    try:
        return await change(cluster, wanted, namespace or _namespace(context), annotations, undo=undo, dry_run=dry_run)
    finally:
        await cluster.close()


async def change(
    kube: Kube,
    wanted: Target,
    namespace: str,
    annotations: dict[str, str],
    *,
    undo: bool = False,
    dry_run: bool = False,
) -> list[str]:
    """Change a workload's pod template; what was done and what restarts, in lines to print.

    Raises WorkloadError where it is not there or cannot be changed so, KubeError and KubeUnreachable.
    """
    kind = _kind(wanted)
    found = await kube.get(kind, namespace, wanted.name)
    if found is None:
        raise WorkloadError(f"{wanted.shown}: is not there in namespace {namespace}: name another with -n")
    found = {"apiVersion": kind.api_version, "kind": kind.kind} | found
    if why := problem(found):
        raise WorkloadError(f"{wanted.shown}: {why}")
    body = template_patch(found, annotations, undo=undo)
    asks = "asks no more" if undo else "asks"
    if body is None:
        return [f"{wanted.shown} in {namespace} {asks} for the sidecar already. Nothing changes."]
    try:
        await kube.patch(kind, namespace, wanted.name, body, dry_run=dry_run)
    except NotFound:
        raise WorkloadError(f"{wanted.shown}: is not there any more in namespace {namespace}") from None
    if dry_run:
        would = f"{wanted.shown} in {namespace} would ask for the sidecar" + (" no more" if undo else "")
        return [f"{would}. Nothing was changed; with the change:", *consequence(found, namespace)]
    return [f"{wanted.shown} in {namespace} {asks} for the sidecar now.", *consequence(found, namespace)]


def _kind(wanted: Target) -> Kind:
    return next(kind for kind in KINDS.values() if kind.kind == wanted.kind)


def _namespace(context: str) -> str:
    """The kubeconfig's namespace for a context."""
    contexts, active = kubernetes.config.list_kube_config_contexts()
    chosen = next((each for each in contexts if each["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")
