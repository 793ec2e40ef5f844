"""``agentmemory explain``: what a turn's prompt was given, what stayed out, and why."""

import json
import urllib.parse

import click

from agentmemory_sidecar.cli.filter import counted
from agentmemory_sidecar.cli.output import table
from agentmemory_sidecar.cli.session import Api, common, moment, quoted

_OUT = {
    "said": "an earlier prompt of this conversation says it",
    "budget": "no room in the budget",
    "duplicate": "another says the same",
}


@click.command()
@common
@click.argument("session_id", metavar="SESSION")
@click.argument("turn")
@click.option("--agent", default="root", show_default=True, help="Which agent's conversation.")
@click.option(
    "--exact", metavar="MODEL", help="Have Claude count the tokens, as this model counts (ANTHROPIC_API_KEY)."
)
def explain(api: Api, output: str, session_id: str, turn: str, agent: str, exact: str | None) -> None:
    """Say what of the state went into the prompt of a turn, what stayed out, and why.

    TURN is a number as "session history" shows it, the id of a turn or a step, or "last".
    """
    query = urllib.parse.urlencode({"agent": agent})
    found = api.get(f"/v1/sessions/{quoted(session_id)}/explain/{quoted(turn)}?{query}")
    if exact:
        found["tokens"]["exact"] = counted(exact, found["question"], found["text"])
    if output == "json":
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    tokens = found["tokens"]
    click.echo(f"turn     {found['turn']} ({found['turn_id']}), {moment(found['at'])}")
    click.echo(f"asked    {' '.join(found['question'].split())[:100]}")
    by = found["filter"] or "nobody: nothing was asked for, or the record is older than this"
    click.echo(f"filter   {by}" + (f"; fell back: {found['fallback']}" if found["fallback"] else ""))
    exactly = f" (exactly {tokens['exact']})" if exact else ""
    click.echo(
        f"tokens   {tokens['injected']} put in{exactly}, {tokens['replayed']} repeated, of a state of {tokens['state']}"
    )
    for title, side in (("in", found["in"]), ("out", found["out"])):
        whose = ["of"] if any("of" in one for one in side) else []
        rows = [
            [one["pointer"], one["tokens"], one["score"], _OUT.get(one["reason"], one["reason"]),
             *(one.get(name, "") for name in whose)]
            for one in side
        ]  # fmt: skip
        click.echo(f"\n{title}")
        click.echo(table(["pointer", "tokens", "score", "because", *whose], rows, empty="nothing"))
