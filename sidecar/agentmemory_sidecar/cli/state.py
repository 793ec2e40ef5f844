"""``agentmemory state``: the declared form of states, tried out and applied."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agentmemory_sidecar.cli.filter import BadInput
from agentmemory_sidecar.cli.output import table
from agentmemory_sidecar.cli.session import Api, of_this_machine, quoted
from agentmemory_sidecar.memory.form import Form, declared, version_of
from agentmemory_sidecar.memory.state import StateError, from_json
from agentmemory_sidecar.resource import ResourceError, load
from agentmemory_sidecar.resource.agentmemory import AgentMemory
from agentmemory_sidecar.resource.compile import form_of
from agentmemory_sidecar.resource.compile import version_of as declared_version


@click.group()
def state() -> None:
    """Try and apply what a resource declares of the form of states."""


@state.command()
@click.option("-f", "--file", type=click.Path(path_type=Path), help="The resource: its sidecar, and its migrations.")
@click.option("--data", type=click.Path(path_type=Path), help="The sidecar's data directory.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--dry-run", is_flag=True, help="Store nothing: say what the resource's migrations would make of each state."
)
@click.option("--name", default="", help="The resource's name, where FILE holds several.")
@click.option(
    "--state", "states", multiple=True, type=click.Path(path_type=Path), metavar="STATE",
    help="With --dry-run: try this state object (JSON), not those of sessions; may be given several times.",
)  # fmt: skip
def migrate(
    file: Path | None, data: Path | None, output: str, dry_run: bool, name: str, states: tuple[Path, ...]
) -> int:
    """Bring stored states into the declared form, which otherwise happens with the next change of each.

    With --dry-run the migrations are those of FILE, which need not be applied yet, and their tests have run; without, they
    are those of the sidecar that runs. Exit code 1 where a state does not come to fit.
    """
    if states and not dry_run:
        raise click.UsageError("--state needs --dry-run: a file is never changed")
    if not dry_run:
        api = Api(*of_this_machine(file, data))
        rows = [{"session": one} | api.post(f"/v1/sessions/{quoted(one)}/migration", {}) for one in _sessions(api)]
        return _told(rows, output, "", stored=True)
    if file is None:
        raise click.UsageError("--dry-run needs -f FILE: the resource whose migrations are tried")
    try:
        resource = load(file, name)
    except ResourceError as error:
        raise click.UsageError(str(error)) from error
    form = declared(declared_version(resource.spec.state), form_of(resource.spec.state))
    if states:
        rows = [_row(form, str(path), _read(path)) for path in states]
    else:
        api = Api(*of_this_machine(file, data))
        rows = [_row(form, one, api.get(f"/v1/sessions/{quoted(one)}/state")) for one in _sessions(api)]
    return _told(rows, output, _summary(resource), stored=False)


def _sessions(api: Api) -> Iterator[str]:
    return (row["session"] for row in api.sessions() if row["state_tokens"])


def _read(path: Path) -> dict[str, Any]:
    try:
        return from_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"--state {path}: {error.strerror}") from error
    except StateError as error:
        raise BadInput(f"--state {path}: {error}") from error


def _row(form: Form, of: str, before: dict[str, Any]) -> dict[str, Any]:
    after = form.read(before)
    return {"session": of, "from": version_of(before), "to": version_of(after), "problems": form.misfits(after)}


def _summary(resource: AgentMemory) -> str:
    migrations = resource.spec.state.migrations
    tests = sum(len(each.tests) for each in migrations)
    return f"{len(migrations)} migrations, {tests} tests passed, schema {declared_version(resource.spec.state)}"


def _told(rows: list[dict[str, Any]], output: str, summary: str, *, stored: bool) -> int:
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        if summary:
            click.echo(f"{summary}\n")
        click.echo(table(["state", "from", "to", "stored" if stored else "would be", "what does not fit"], [
            [row["session"], row["from"], row["to"], "anew" if row["from"] != row["to"] else "as it is",
             "; ".join(f"{each['pointer']}: {each['problem']}" for each in row["problems"])]
            for row in rows
        ], empty="no state yet"))  # fmt: skip
    return int(any(row["problems"] for row in rows))
