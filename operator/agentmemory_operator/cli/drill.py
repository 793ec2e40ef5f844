"""``agentmemory drill``: break something of a cluster under a writer, and report what it cost."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

import click

from agentmemory_operator.drill.conduct import ASK, Wanted, conduct
from agentmemory_operator.drill.course import DrillFailed, Times
from agentmemory_operator.drill.evaluate import Report
from agentmemory_operator.drill.render import as_json, as_markdown
from agentmemory_operator.drill.stage import CannotDrill
from agentmemory_sidecar.resource import ResourceError

IMPOSSIBLE = {
    "link": "what travels between regions is DynamoDB's and S3's replication, and nothing on a cluster can stop it: cut it "
    "there (AWS Fault Injection Service pauses a global table's replication), and run `agentmemory drill region` meanwhile",
}


@click.command()
@click.argument("kind", type=click.Choice(["pod", "drain", "pause", "region", "cold", "clock", "link"]))
@click.option(
    "-f", "--for", "memory", required=True, metavar="NAME", help="The AgentMemory, as NAME or agentmemory/NAME."
)
@click.option("-n", "--namespace", default="default", show_default=True, help="The resource's namespace.")
@click.option(
    "--context", "contexts", multiple=True, metavar="[REGION=]CONTEXT", help="Kubeconfig context, for a region."
)
@click.option("--region", default="", help="The region that is hit; default the resource's first.")
@click.option("--node", default="", help="With drain: the node.")
@click.option(
    "--also",
    multiple=True,
    metavar="SELECTOR",
    help="With cold: labels of more pods that are stores, as app=postgres.",
)
@click.option(
    "--skew",
    "skew_s",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="With clock: how far clocks are off; default twice session.lock.ttl, at most 240.",
)
@click.option(
    "--allow-privileged", is_flag=True, help="Allow what concerns more than the drill's own pods: drain, cold."
)
@click.option("--hold", "hold_s", default=20.0, show_default=True, help="How long the fault lasts, at least (s).")
@click.option("--turns", default=5, show_default=True, help="Turns of each writer before, during and after it.")
@click.option("--api-key-from", default="", metavar="SECRET/KEY", help="The Anthropic API key of the drill's agents.")
@click.option("--upstream", default="", metavar="URL", help="Claude's base URL, instead of the resource's.")
@click.option("--model", default="claude-haiku-4-5", show_default=True, help="The model that the agents ask.")
@click.option("--ask", default=ASK, help="What a turn says; {call} becomes the tool's input.")
@click.option("--image", default="", help="An image with Python for the agents; default the sidecar's.")
@click.option("-o", "--output", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True)
@click.option("--report", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report there, too.")
def drill(
    kind: str,
    memory: str,
    namespace: str,
    contexts: tuple[str, ...],
    node: str,
    also: tuple[str, ...],
    skew_s: float | None,
    allow_privileged: bool,
    hold_s: float,
    turns: int,
    api_key_from: str,
    output: str,
    file: Path | None,
    **more: Any,
) -> int:
    """Run a drill on a cluster of your own; KIND says what is broken. Every turn is paid for."""
    if kind in IMPOSSIBLE:
        raise click.UsageError(f"{kind}: {IMPOSSIBLE[kind]}")
    if kind == "drain" and not allow_privileged:
        raise click.UsageError("drain takes everybody's pods from a node: allow it with --allow-privileged")
    if (kind == "drain") != bool(node):
        raise click.UsageError("--node goes with drain" if node else "drain needs --node: which one?")
    if also and kind != "cold":
        raise click.UsageError("--also goes with cold")
    if skew_s is not None and kind != "clock":
        raise click.UsageError("--skew goes with clock")
    secret, _, key = api_key_from.partition("/")
    if api_key_from and not (secret and key):
        raise click.UsageError("--api-key-from is SECRET/KEY: a Secret of the namespace and one of its keys")
    wanted = Wanted(
        kind, memory.removeprefix("agentmemory/"), namespace, named(contexts), node=node,
        also=also, skew_s=skew_s, privileged=allow_privileged,
        key_from=(secret, key) if key else None, times=Times(hold_s=hold_s, turns=turns), **more,
    )  # fmt: skip
    try:
        report = asyncio.run(_run(wanted))
    except CannotDrill as error:
        raise click.UsageError(str(error)) from None
    except ResourceError as error:
        raise click.UsageError(" ".join(error.problems)) from None
    except DrillFailed as error:
        raise click.ClickException(str(error)) from None
    except asyncio.CancelledError:
        raise click.Abort from None
    text = as_json(report) + "\n" if output == "json" else as_markdown(report)
    click.echo(text, nl=False)
    if file:
        file.write_text(text)
    return 0 if report.passed else 1


def named(contexts: tuple[str, ...]) -> dict[str, str]:
    """Region to context; under the empty name the one for all. Raises UsageError."""
    found: dict[str, str] = {}
    for each in contexts or ("",):
        region, separator, context = each.partition("=") if "=" in each else ("", "", each)
        if separator and not (region and context):
            raise click.UsageError(f"--context {each}: say REGION=CONTEXT, or one CONTEXT for all regions")
        if region in found:
            raise click.UsageError(f"--context {each}: there is one for {region or 'all regions'} already")
        found[region] = context
    return found


async def _run(wanted: Wanted) -> Report:
    """A signal ends the drill, but not before it has cleaned up."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await conduct(wanted, lambda text: click.echo(text, err=True))
