"""``agentmemory filter``: what of a state would go into a prompt, chosen and written as the sidecar does."""

import sys
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from agentmemory_sidecar.memory import filter as filters
from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.render import render
from agentmemory_sidecar.memory.state import StateError, from_json
from agentmemory_sidecar.memory.tokens import estimate


class BadInput(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2


@click.command("filter")
@click.option("--state", "file", required=True, metavar="FILE", help="The state object as JSON; - for standard input.")
@click.option("--query", required=True, help="What the user asks.")
@click.option("--budget", required=True, type=click.IntRange(min=0), metavar="N", help="The most it may take (tokens).")
@click.option("--strategy", default="Lexical", show_default=True, help="Lexical or None.")
@click.option(
    "--pinned", multiple=True, metavar="POINTER", help="A part that always goes in; may be given several times."
)
def filter_(file: str, query: str, budget: int, strategy: str, pinned: tuple[str, ...]) -> None:
    """Print which parts of a state the sidecar would put into the prompt, as JSON: pointers, tokens, text."""
    try:
        chosen = filters.make(strategy)
    except filters.Unsupported as error:
        _refuse(f"--strategy: {error}")
    for pointer in pinned:
        try:
            ptr.parse(pointer)
        except ValueError as error:
            _refuse(f"--pinned: {error}")
    try:
        state = from_json(_read(file))
    except StateError as error:
        _refuse(f"--state {file}: {error}")
    selection = chosen.select(state, query, budget, pinned=pinned)
    text = render(selection)
    result = {"pointers": [fact.pointer for fact in selection.facts], "tokens": estimate(text), "text": text}
    click.echo(msgspec.json.format(msgspec.json.encode(result)).decode())


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        _refuse(f"--state {file}: {error.strerror}")


def _refuse(message: str) -> NoReturn:
    raise BadInput(message)
