"""``agentmemory``: finds its commands by the entry-point group, so that each is imported only when it is called."""

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version

import click

GROUP = "agentmemory.commands"
EXTRA_OF = {
    "agentmemory_sidecar": "laptop",
    "agentmemory_operator": "operator",
}
"""Which extra brings what a command's package imports."""


class Commands(click.Group):
    """A group whose commands are other distributions' too; ``entries`` names the entry-point group that has them."""

    entries = GROUP

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(found(self.entries).keys())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = found(self.entries).get(cmd_name)
        if entry is None:
            return None
        try:
            command = entry.load()
        except ModuleNotFoundError as error:
            extra = EXTRA_OF.get(entry.module.partition(".")[0], "laptop")
            message = (
                f"`{ctx.command_path} {cmd_name}` needs {error.name}, which is not installed. "
                f"Run: pip install 'agentmemory-operator[{extra}]'"
            )
            return _missing(cmd_name, message)
        assert isinstance(command, click.Command)
        return command


def _missing(name: str, message: str) -> click.Command:
    """A command that can be listed but says what it lacks."""

    @click.command(name, short_help="(not installed)", context_settings={"ignore_unknown_options": True})
    @click.argument("_", nargs=-1, type=click.UNPROCESSED)
    def missing(_: tuple[str, ...]) -> None:
        raise click.UsageError(message)

    return missing


def found(group: str = GROUP) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


class Root(Commands):
    """Passes ``-n`` and ``--context`` on to the command. One that has no such option says so: it is never ignored."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, click.Group):
            return name, command, with_place(rest, ctx.params) if rest else rest
        known = {option for parameter in command.params for option in parameter.opts} if command else set()
        for option in (f"--{each}" for each in ("namespace", "context") if ctx.params.get(each) is not None):
            if option not in known:
                raise click.UsageError(f"`{ctx.command_path} {name}` has no {option}")
        return name, command, with_place(rest, ctx.params)


def with_place(arguments: Sequence[str], given: Mapping[str, str | None]) -> list[str]:
    """A command's arguments with what was said before its name, unless they say it themselves."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = list(arguments[:end]), list(arguments[end:])
    if {"-h", "--help"} & set(own):
        return list(arguments)
    for name, short in (("namespace", "-n"), ("context", None)):
        value = given.get(name)
        said = any(each.startswith(f"--{name}") or (short and each.startswith(short)) for each in own)
        if value is not None and not said:
            own += [f"--{name}", value]
    return own + rest


@click.command(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("agentmemory-operator"), prog_name="agentmemory")
@click.option("-n", "--namespace", help="Of a command about a cluster: the namespace. As the command's own -n.")
@click.option("--context", help="The kubeconfig context. As the command's own.")
def agentmemory(namespace: str | None, context: str | None) -> None:
    """External memory for Claude agents."""


def main() -> None:
    """Exit codes: 0 done, 1 it failed, 2 the input was wrong (one line on standard error says what and what to do)."""
    try:
        code = agentmemory.main(standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        click.echo(f"agentmemory: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
