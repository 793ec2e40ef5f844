"""``agentmemory region``: planned moves of sessions, and (from the operator) whose a resource's tables and buckets are."""

import json
from typing import Any

import click

from agentmemory_sidecar.cli.main import Commands
from agentmemory_sidecar.cli.session import Api, common, quoted


class _Regions(Commands):
    entries = "agentmemory.commands.region"


@click.command(cls=_Regions)
def region() -> None:
    """Move sessions between regions, and say who keeps their stores."""


def _to(command: Any) -> Any:
    timeout = click.option(
        "--timeout",
        default=60.0,
        show_default=True,
        type=click.FloatRange(0.1, 600),
        help="Seconds to wait for a session.",
    )
    return click.option("--to", required=True, metavar="REGION", help="Where to.")(timeout(command))


@click.command()
@common
@_to
@click.argument("session_id")
def move(api: Api, output: str, to: str, timeout: float, session_id: str) -> None:
    """Hold a session still until another region has all of it; then start its agent there.

    Steps that come meanwhile are refused, or wait, as the resource says of a busy session.
    """
    found = api.post(f"/v1/sessions/{quoted(session_id)}/move", {"to": to, "timeout_s": timeout})
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{session_id} is whole in {to} (waited {found['waited_s']} s): start its agent there")


@click.command()
@common
@_to
def drain(api: Api, output: str, to: str, timeout: float) -> int:
    """Wait until another region has all of every session. Stop the agents here first: what they still do is not waited for.

    Exit code 1 where a session did not come over in time; the others are done, so say it again.
    """
    whole, late = 0, []
    for row in api.sessions():
        try:
            api.post(f"/v1/sessions/{quoted(row['session'])}/move", {"to": to, "timeout_s": timeout})
            whole += 1
        except click.UsageError:
            raise
        except click.ClickException as error:
            late.append({"session": row["session"], "why": error.format_message()})
    if output == "json":
        click.echo(json.dumps({"to": to, "whole": whole, "late": late}, indent=2))
    else:
        click.echo(f"{whole} sessions are whole in {to}")
        for row in late:
            click.echo(f"not yet: {row['session']}: {row['why']}", err=True)
    return 1 if late else 0
