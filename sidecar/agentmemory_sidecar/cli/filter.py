"""``agentmemory filter``: what of a state would go into a prompt, chosen and written as the sidecar does."""

import asyncio
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from agentmemory_sidecar.cli.resource import compiled
from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.render import render
from agentmemory_sidecar.memory.state import StateError, from_json
from agentmemory_sidecar.memory.tokens import estimate
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.models.embedder import NoModel
from agentmemory_sidecar.models.picker import exact_tokens
from agentmemory_sidecar.models.strategy import selector
from agentmemory_sidecar.resource.config import EmbeddingsConfig, FilterConfig
from agentmemory_sidecar.resource.prompt import Strategy
from agentmemory_sidecar.step.selector import Chosen, Wanted
from agentmemory_sidecar.tasks import Tasks

_NAMES = {strategy.value.lower(): strategy for strategy in Strategy}


class BadInput(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2


@click.command("filter")
@click.option("--state", "file", required=True, metavar="FILE", help="The state object as JSON; - for standard input.")
@click.option("--query", required=True, help="What the user asks.")
@click.option("--budget", type=click.IntRange(min=0), metavar="N", help="The most it may take (tokens).")
@click.option("--strategy", help="Lexical, Hybrid, SubAgent or None.  [default: Lexical, or the resource's]")
@click.option("--embeddings", metavar="FOLDER", help="An embedding model for Hybrid.")
@click.option("-f", "--file", "resource", type=click.Path(path_type=Path), help="Take spec.filter of this resource.")
@click.option(
    "--pinned", multiple=True, metavar="POINTER", help="A part that always goes in; may be given several times."
)
@click.option("--explain", is_flag=True, help="Say of each part why it is in, and what stayed out.")
@click.option(
    "--exact", metavar="MODEL", help="Have Claude count the tokens, as this model counts (ANTHROPIC_API_KEY)."
)
def filter_(
    file: str,
    query: str,
    budget: int | None,
    strategy: str | None,
    embeddings: str | None,
    resource: Path | None,
    pinned: tuple[str, ...],
    explain: bool,
    exact: str | None,
) -> None:
    """Print which parts of a state the sidecar would put into the prompt, as JSON: pointers, tokens, text."""
    config = _config(resource, budget, strategy, embeddings, pinned)
    try:
        state = from_json(_read(file))
    except StateError as error:
        _refuse(f"--state {file}: {error}")
    try:
        chosen = asyncio.run(_choose(config, state, query))
    except NoModel as error:
        _refuse(f"embeddings: {error}")
    result = told(chosen, explain=explain)
    if chosen.fallback:
        click.echo(f"{config.strategy} fell back to {chosen.by}: {chosen.fallback}", err=True)
    if exact:
        result["exact_tokens"] = counted(exact, query, result["text"])
    click.echo(msgspec.json.format(msgspec.json.encode(result)).decode())


async def _choose(config: FilterConfig, state: dict[str, Any], query: str) -> Chosen:
    tasks = Tasks()
    chooser = selector(config, tasks, Metrics())
    wanted = Wanted(state, query, config.budget_tokens, config.pinned, config.never_in_prompt)
    try:
        await chooser.open()
        chooser.learn(wanted)
        await chooser.learnt()
        return await chooser.select(wanted)
    finally:
        await chooser.close()
        await tasks.close()


def told(chosen: Chosen, *, explain: bool) -> dict[str, Any]:
    """A choice as the command prints it."""
    text = render(chosen.selection)
    result: dict[str, Any] = {
        "pointers": [fact.pointer for fact in chosen.selection.facts], "tokens": estimate(text), "text": text,
    }  # fmt: skip
    if explain:
        result |= {"strategy": chosen.by, "fallback": chosen.fallback}
        result["in"] = [
            {"pointer": fact.pointer, "tokens": fact.tokens, "score": fact.score, "reason": fact.reason}
            for fact in chosen.selection.facts
        ]
        result["out"] = [msgspec.structs.asdict(fact) for fact in chosen.selection.dropped]
    return result


def counted(model: str, query: str, text: str) -> int:
    """What the text adds to a prompt with this question, as Claude counts; with the key of whoever types."""
    try:
        import anthropic
    except ImportError:
        raise BadInput("--exact needs anthropic: pip install 'agentmemory-operator[sidecar]'") from None
    try:
        return exact_tokens(anthropic.Anthropic(max_retries=1, timeout=20), model, query, text)
    except anthropic.APIStatusError as error:
        raise click.ClickException(f"--exact: Claude does not count: status {error.status_code}") from None
    except (anthropic.AnthropicError, TypeError) as error:
        said = "set ANTHROPIC_API_KEY" if isinstance(error, TypeError) else type(error).__name__
        raise click.ClickException(f"--exact: Claude cannot be asked: {said}") from None


def _config(
    resource: Path | None, budget: int | None, strategy: str | None, embeddings: str | None, pinned: tuple[str, ...]
) -> FilterConfig:
    for pointer in pinned:
        try:
            ptr.parse(pointer)
        except ValueError as error:
            _refuse(f"--pinned: {error}")
    if resource is not None:
        config = compiled(resource, data=Path()).filter
    elif budget is None:
        _refuse("--budget is missing: how many tokens may it take? (or name a resource with -f)")
    else:
        config = FilterConfig(strategy=Strategy.LEXICAL, budget_tokens=budget, pinned=(), never_in_prompt=())
    changes: dict[str, Any] = {}
    if budget is not None:
        changes["budget_tokens"] = budget
    if pinned:
        changes["pinned"] = pinned
    if embeddings is not None:
        changes["embeddings"] = EmbeddingsConfig(model=embeddings, deadline_s=5)
    if strategy is not None:
        if strategy.lower() not in _NAMES:
            _refuse(f"--strategy: no strategy is called {strategy!r}: use Lexical, Hybrid, SubAgent or None")
        changes["strategy"] = _NAMES[strategy.lower()]
    config = config.model_copy(update=changes)
    if config.strategy is Strategy.HYBRID and not (config.embeddings or config.sub_agent):
        _refuse(
            "--strategy Hybrid needs --embeddings FOLDER, or a resource (-f) with filter.embeddings or filter.subAgent"
        )
    if config.strategy is Strategy.SUB_AGENT and not config.sub_agent:
        _refuse("--strategy SubAgent needs a resource (-f) with filter.subAgent")
    return config


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        _refuse(f"--state {file}: {error.strerror}")


def _refuse(message: str) -> NoReturn:
    raise BadInput(message)
