"""``agentmemory report``: what memory brought and cost; in shadow mode, what it would have."""

import json
import time
import urllib.parse
from typing import Any

import click

from agentmemory_sidecar.cli.output import table
from agentmemory_sidecar.cli.session import Api, common, quoted
from agentmemory_sidecar.resource.values import Duration

ROWS = (
    ("steps", "steps saved"),
    ("refused", "steps refused: their session was busy"),
    ("failed", "steps that failed"),
    ("conflicts", "conflicts open"),
    ("unreadable", "records of erased persons, not in the sums"),
    ("whole_tokens", "tokens: the whole state in each request"),
    ("injected_tokens", "tokens: put in"),
    ("replayed_tokens", "tokens: repeated"),
    ("saved_tokens", "tokens: saved"),
    ("saved_net", "input tokens saved, as they are charged"),
    ("input_tokens", "Claude: input tokens"),
    ("cache_read_tokens", "Claude: read from the cache"),
    ("cache_written_tokens", "Claude: written to the cache"),
    ("output_tokens", "Claude: output tokens"),
)


@click.command()
@common
@click.option(
    "--session", "sessions", multiple=True, metavar="ID", help="Only this session; may be given several times."
)
@click.option("--subject", default="", help="Only sessions of this data subject (user:ID or session:ID).")
@click.option("--since", default="", metavar="AGE", help="Only what is not older, such as 24h or 7d.")
def report(api: Api, output: str, sessions: tuple[str, ...], subject: str, since: str) -> None:
    """Sum up what memory saved and what it refused."""
    query = urllib.parse.urlencode({"since": _moment(since)})
    whole: dict[str, Any] = {"sessions": 0, **dict.fromkeys((name for name, _ in ROWS), 0)}
    for session in sessions or (row["session"] for row in api.sessions(subject)):
        one = api.get(f"/v1/sessions/{quoted(session)}/report?{query}")
        whole = {"sessions": whole["sessions"] + 1} | {name: whole[name] + one[name] for name, _ in ROWS}
    if output == "json":
        click.echo(json.dumps(whole, indent=2))
        return
    shown = [("sessions", whole["sessions"]), *((text, round(whole[name])) for name, text in ROWS)]
    click.echo(table(["what", "sum"], shown))


def _moment(age: str) -> float:
    """Seconds since the epoch; 0 for no limit."""
    if not age:
        return 0.0
    try:
        return time.time() - Duration.parse(age).seconds
    except ValueError as error:
        raise click.BadParameter(f"{age!r} is no age: write 90m, 24h or 7d", param_hint="--since") from error
