"""``agentmemory``: finds its commands by the entry-point group, so that each is imported only when it is called."""

import sys
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


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("agentmemory-operator"), prog_name="agentmemory")
def agentmemory() -> None:
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
