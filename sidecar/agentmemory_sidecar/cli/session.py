"""``agentmemory session``: what the sidecar of this machine, or of this pod, remembers; asked over its admin API."""

import functools
import http.client
import json
import math
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import click

from agentmemory_sidecar.cli.main import found
from agentmemory_sidecar.cli.output import table
from agentmemory_sidecar.cli.resource import data_directory
from agentmemory_sidecar.cli.running import UnixConnection, find, pod_socket

Command = Callable[..., Any]


def common(command: Command) -> Command:
    """The options of every subcommand: which sidecar is asked. The command gets an :class:`Api` for them, and ``output``."""

    @functools.wraps(command)
    def run(
        file: Path | None, data: Path | None, namespace: str, context: str, memory: str, from_region: str,
        service_account: str, tools_namespace: str, output: str, **rest: Any,
    ) -> Any:  # fmt: skip
        if not namespace:
            if given := [name for name, value in (("--context", context), ("--memory", memory)) if value]:
                raise click.UsageError(f"{given[0]} goes with -n: name the namespace to look at")
            return command(Api(*of_this_machine(file, data)), output, **rest)
        if file or data:
            raise click.UsageError("-n asks a cluster, and -f and --data a sidecar of this machine: leave one out")
        reach = outside()
        with reach(
            namespace=namespace, context=context, memory=memory, region=from_region, service_account=service_account,
            tools_namespace=tools_namespace,
        ) as way:  # fmt: skip
            return command(Api(way.connect, way.headers, way.prefix), output, **rest)

    wrapped: Command = run
    for option in reversed(_COMMON):
        wrapped = option(wrapped)
    return wrapped


_COMMON = [
    click.option("-f", "--file", type=click.Path(path_type=Path), help="The resource whose sidecar is meant."),
    click.option("--data", type=click.Path(path_type=Path), help="The sidecar's data directory."),
    click.option("-n", "--namespace", default="", help="Ask a cluster: the namespace of the memory."),
    click.option("--context", default="", help="With -n: the kubeconfig context."),
    click.option("--memory", default="", help="With -n: which AgentMemory, if the namespace has several."),
    click.option("--from-region", default="", metavar="REGION", help="With -n: the region to look from."),
    click.option("--service-account", default="", metavar="NAME", help="With -n: ask as one of the namespace's."),
    click.option(
        "--tools-namespace", default="agentmemory-system", show_default=True, help="With -n: where it is installed."
    ),
    click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
]


class Way(Protocol):
    """To an admin API."""

    @property
    def headers(self) -> dict[str, str]: ...

    @property
    def prefix(self) -> str: ...

    def connect(self) -> http.client.HTTPConnection: ...


def outside() -> Callable[..., AbstractContextManager[Way]]:
    """What reaches a cluster's memories; another part of the distribution brings it. Raises UsageError."""
    (entry,) = found("agentmemory.access").values()
    try:
        reach: Callable[..., AbstractContextManager[Way]] = entry.load()
    except ModuleNotFoundError as error:
        message = f"-n needs {error.name}, which is not installed. Run: pip install 'agentmemory-operator[operator]'"
        raise click.UsageError(message) from None
    return reach


def of_this_machine(
    file: Path | None, data: Path | None
) -> tuple[Callable[[], http.client.HTTPConnection], dict[str, str]]:
    """How the sidecar of this machine, or of this pod, is reached. Raises UsageError."""
    directory = data_directory(file, data)
    if directory is None and (socket_ := pod_socket()) is not None:
        return lambda: UnixConnection(socket_), {}
    running = find(directory)
    address = running.admin.removeprefix("http://")
    return lambda: http.client.HTTPConnection(address), {"authorization": f"Bearer {running.token}"}


class Api:
    """The admin API of a running sidecar. What it refuses becomes a ClickException with its message."""

    def __init__(
        self, connect: Callable[[], http.client.HTTPConnection], headers: dict[str, str], prefix: str = ""
    ) -> None:
        self._connect, self._headers, self._prefix = connect, headers, prefix

    def get(self, path: str) -> Any:
        return json.loads(b"".join(self._read(path)))

    def post(self, path: str, body: Any) -> Any:
        return json.loads(b"".join(self._read(path, "POST", json.dumps(body))))

    def sessions(self, subject: str = "", most: float = math.inf) -> Iterator[dict[str, Any]]:
        """The rows of all sessions, or of a data subject's, page by page; at most so many."""
        after = ""
        while most > 0:
            query = urllib.parse.urlencode({"subject": subject, "after": after, "limit": min(100, most)})
            page = self.get(f"/v1/sessions?{query}")
            yield from page["sessions"]
            most -= len(page["sessions"])
            if not (after := page["next"]):
                return

    def lines(self, path: str) -> Iterator[Any]:
        for line in self._read(path):
            yield json.loads(line)

    def _read(self, path: str, method: str = "GET", body: str | None = None) -> Iterator[bytes]:
        connection = self._connect()
        try:
            connection.request(method, self._prefix + path, body, self._headers)
            response = connection.getresponse()
            if response.status >= 400:
                message = json.loads(response.read())["error"]["message"]
                kind = click.UsageError if response.status in (400, 404) else click.ClickException
                raise kind(message)
            yield from response
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise click.ClickException(f"the sidecar does not answer: {reason}") from error
        finally:
            connection.close()


def quoted(session: str) -> str:
    return urllib.parse.quote(session, safe="")


@click.group()
def session() -> None:
    """Look at what sessions remember."""


@session.command("list")
@common
@click.option("--subject", default="", help="Only of this data subject (user:ID or session:ID).")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
def list_(api: Api, output: str, subject: str, limit: int) -> None:
    """List sessions."""
    rows = list(api.sessions(subject, limit))
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    columns = ["session", "subject", "steps", "version", "state tokens", "updated"]
    click.echo(table(columns, [
        [row["session"], row["subject"], row["steps"], row["version"], row["state_tokens"], moment(row["updated_at"])]
        for row in rows
    ], empty="no session yet"))  # fmt: skip


@session.command()
@common
@click.option("--pii", is_flag=True, help="Also what the schema marks as telling of a person.")
@click.argument("session_id")
def show(api: Api, output: str, pii: bool, session_id: str) -> None:
    """Show one session: its state, its latest turns, what waits."""
    shown = api.get(f"/v1/sessions/{quoted(session_id)}{'?pii=1' if pii else ''}")
    if output == "json":
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    click.echo(f"session  {shown['session']}\nsubject  {shown['subject']}\n")
    columns = ["agent", "steps", "version", "bytes", "ledger", "outbox", "conflicts", "updated"]
    click.echo(table(columns, [
        [c["agent"], c["steps"], c["version"], c["bytes"], c["ledger"], c["outbox"], len(c["conflicts"]),
         moment(c["updated_at"])]
        for c in shown["conversations"]
    ]))  # fmt: skip
    click.echo("\nstate")
    click.echo(json.dumps(shown["state"], indent=2, ensure_ascii=False))
    if shown["learnt"]:
        click.echo("\nlearnt")
        columns = ["place", "turn", "at", "confidence"]
        click.echo(table(columns, [
            [one["pointer"], one["turn"], moment(one["at"]), one["confidence"]] for one in shown["learnt"]
        ]))  # fmt: skip
    if whose := shown.get("whose"):
        click.echo("")
        click.echo(table(["place", "whose"], [[place, owner] for place, owner in whose.items()]))
    click.echo("\nlatest turns")
    for conversation in shown["conversations"]:
        for turn in conversation["window"]:
            for one in turn.get("lines", []):
                text = " ".join(str(one.get("text") or one.get("name") or "").split())
                click.echo(f"  {conversation['agent'][:12]:12}  {one.get('kind', ''):12}  {text[:100]}")


@session.command()
@common
@click.argument("session_id")
@click.option("--agent", default="root", show_default=True, help="Which agent's conversation.")
def history(api: Api, output: str, session_id: str, agent: str) -> None:
    """List the steps of a session as the archive has them."""
    query = urllib.parse.urlencode({"agent": agent})
    records = list(api.lines(f"/v1/sessions/{quoted(session_id)}/history?{query}"))
    if output == "json":
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
        return
    columns = ["seq", "at", "kind", "turn", "version", "stop", "in", "out", "injected", "what"]
    click.echo(table(columns, [_history_row(record) for record in records], empty="no record yet"))


def _history_row(record: dict[str, Any]) -> list[Any]:
    payload = record["payload"] or {}
    response, usage = payload.get("response") or {}, payload.get("usage") or {}
    receipt = (payload.get("injected") or {}).get("receipt") or {}
    what = payload.get("outcome") or ("(erased)" if record["payload"] is None else payload.get("model", ""))
    if read := payload.get("extracted"):
        learnt = f"{len(read['from'])} learnt, {len(read['refused'])} refused"
        what = f"extraction of {len(read['turns'])} turns: {payload.get('outcome') or learnt}"
    return [
        record["seq"], moment(record["at"]), record["kind"], record["turn"], record["version"],
        response.get("stop_reason", ""), usage.get("input_tokens", ""), usage.get("output_tokens", ""),
        receipt.get("injected-tokens", ""), what,
    ]  # fmt: skip


@session.command()
@common
@click.argument("session_id")
def export(api: Api, output: str, session_id: str) -> None:
    """Print every record of a session with all its content, blobs included (JSON Lines; one array with -o json)."""
    records = api.lines(f"/v1/sessions/{quoted(session_id)}/export")
    if output == "json":
        click.echo(json.dumps(list(records), indent=2, ensure_ascii=False))
        return
    for record in records:
        click.echo(json.dumps(record, ensure_ascii=False))


@session.command()
@common
@click.option("--project", "of", flag_value="projects", help="The id is a project's, not a session's.")
@click.option("--user", "of", flag_value="users", help="The id is a user's.")
@click.option("--settle", multiple=True, metavar="CONFLICT", help="Take this conflict out; may be given several times.")
@click.argument("session_id")
def conflicts(api: Api, output: str, of: str | None, settle: tuple[str, ...], session_id: str) -> None:
    """Show what was kept because two writers met at one place, or because it does not fit the schema; or settle it.

    The later write stands in the state. To have the other value instead, set it (PATCH .../state) and then settle.
    """
    path = f"/v1/{of or 'sessions'}/{quoted(session_id)}/conflicts"
    rows = (api.post(path, {"settle": list(settle)}) if settle else api.get(path))["conflicts"]
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    click.echo(table(["conflict", "place", "stands", "kept beside it"], [
        [row["id"], *_sides(row)] for row in rows
    ], empty="no conflict"))  # fmt: skip


def _sides(row: dict[str, Any]) -> list[str]:
    if "stands" in row:
        return [
            row["pointer"],
            *(f"{row[side]['region']}: {_short(row[side]['value'])}" for side in ("stands", "other")),
        ]
    if refused := row["operations"].get("refused"):
        places, why = (", ".join(each[name] for each in refused) for name in ("pointer", "problem"))
        return [places, "was refused", f"{row['source']}: {why}"]
    clashes = row["operations"].get("clashes", [])
    places = ", ".join(clash["pointer"] for clash in clashes)
    theirs = ", ".join(_short(clash.get("theirs")) for clash in clashes)
    ours = ", ".join(_short(clash["ours"].get("value")) for clash in clashes)
    return [places or "the whole state", theirs, f"{row['source']}: {ours or 'a patch that does not fit'}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
