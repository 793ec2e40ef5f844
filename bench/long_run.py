"""What memory costs an agent in a long run, and whether it helps: ``python -m bench.long_run``.

An agent of Anthropic's own SDK works for 50 turns, with tools and thinking, against the strict Claude of ``tests.claude``:
once directly, once through a sidecar (``agentmemory up`` with embedded stores) whose session remembers a state of some
20,000 tokens (``bench.long_run_data``). Told are

- the tokens of the state in all requests together, what is repeated from earlier turns included, against the whole state
  in each of them;
- of the turns that need a planted fact, how many prompts held it;
- the share of all prompt tokens that Claude read from its cache, beside that of the run without memory;
- requests that Claude refused, and thinking blocks whose prefix did not match.

A token is four characters. Exits 1 where a target is missed.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
from anthropic import AsyncAnthropic

from agentmemory_sidecar.cli import running
from agentmemory_sidecar.memory.fence import is_whole_injection
from bench import long_run_data as data
from bench.stand import BenchError, sidecar_script
from tests.claude import Recorded, Reply, StrictClaude

MODEL = "claude-opus-5-5"
SESSION = "long-run"
HEADER = "X-Agent-Session"
RESOURCE = Path(__file__).parent / "long_run.yaml"
READY_S = 120
_TOOLS: list[Any] = [
    {
        "name": name,
        "description": text,
        "input_schema": {"type": "object", "properties": {"argument": {"type": "string"}}, "required": ["argument"]},
    }
    for name, text in (("run", "Runs a command in the project's shell."), ("read", "Returns the lines of a file."))
]
_SYSTEM = "You are a coding agent in the repository of a web shop. Read before you write, and keep changes small. " * 8
_CACHED = {"type": "ephemeral"}


@dataclass(frozen=True, slots=True)
class Result:
    """One run with memory beside one without. Tokens are sums over all requests."""

    turns: int
    requests: int
    state_tokens: int
    """Of the whole state, once."""
    whole_tokens: int
    """Of the whole state in each request."""
    told_tokens: int
    """Of what stood of it in them."""
    planted: int
    present: int
    """Turns that needed a planted fact, and those whose prompt held it."""
    cached_share: float
    cached_share_without: float
    refused: int
    mismatches: int

    @property
    def saved(self) -> float:
        """The share of the whole state's tokens that was not sent."""
        return 1 - self.told_tokens / self.whole_tokens

    @property
    def cached_beside(self) -> float:
        """The share read from the cache, against that of the run without memory."""
        return self.cached_share / self.cached_share_without

    def missed(self) -> list[str]:
        """The targets that are not met."""
        targets = {
            "at least 90 % fewer tokens than the whole state in each request": self.saved >= 0.9,
            "every planted fact present": self.present == self.planted,
            "cache-read share within 5 % of the run without memory": self.cached_beside >= 0.95,
            "nothing refused": self.refused == 0,
            "no thinking mismatch": self.mismatches == 0,
        }
        return [name for name, met in targets.items() if not met]


def tokens(value: Any) -> int:
    """Four characters each, of a text or of a value as compact JSON."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return -(-len(text) // 4)


async def converse(url: str, claude: StrictClaude, turns: Sequence[data.Turn], seed: int) -> list[list[Recorded]]:
    """Have an agent of the SDK take all turns; what reached Claude, turn by turn. Raises anthropic.APIError."""
    rng = random.Random(seed)
    messages: list[Any] = []
    seen: list[list[Recorded]] = []
    async with AsyncAnthropic(
        base_url=url, api_key="of-the-agent", max_retries=0, default_headers={HEADER: SESSION}
    ) as client:
        for turn in turns:
            before = len(claude.requests)
            claude.script(*_replies(turn))
            messages.append({"role": "user", "content": [{"type": "text", "text": turn.text}]})
            calls = 0
            while True:
                async with client.messages.stream(
                    model=MODEL, max_tokens=4000, thinking={"type": "adaptive"}, tools=_TOOLS,
                    system=[{"type": "text", "text": _SYSTEM, "cache_control": {"type": "ephemeral"}}],
                    messages=_with_breakpoint(messages),
                ) as stream:  # fmt: skip
                    answer = await stream.get_final_message()
                messages.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
                if answer.stop_reason != "tool_use":
                    break
                calls += 1
                results = [
                    {"type": "tool_result", "tool_use_id": block.id, "content": data.output(rng, calls)}
                    for block in answer.content
                    if block.type == "tool_use"
                ]
                messages.append({"role": "user", "content": results})
            seen.append(claude.requests[before:])
    return seen


def _replies(turn: data.Turn) -> list[Reply]:
    """What Claude does in a turn: some calls, then an answer."""
    calls = [
        Reply(blocks=["I'll look.", {"type": "tool_use", "name": "run", "input": {"argument": f"make step-{at}"}}])
        for at in range(turn.calls)
    ]
    return [*calls, Reply(blocks="Done: I changed one thing, and its test passes.")]


def _with_breakpoint(messages: Sequence[Any]) -> list[Any]:
    """The messages with a cache breakpoint at the end of the last one, as agents set it."""
    *others, last = messages
    *blocks, end = last["content"]
    return [*others, {**last, "content": [*blocks, {**end, "cache_control": _CACHED}]}]


def texts(request: Recorded) -> list[str]:
    """All texts that stand in a request's messages."""
    return [
        block["text"]
        for message in request.prompt
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if block.get("type") == "text"
    ]


def compared(
    plan: data.Plan, without: Sequence[Sequence[Recorded]], having: Sequence[Sequence[Recorded]], claude: StrictClaude
) -> Result:
    """The result of two runs of a plan; ``claude`` answered the one that had memory."""
    requests = [request for turn in having for request in turn]
    asked = [(turn, seen[0]) for turn, seen in zip(plan.turns, having, strict=True) if turn.needs]
    counters = claude.counters
    return Result(
        turns=len(plan.turns),
        requests=len(requests),
        state_tokens=tokens(plan.state),
        whole_tokens=len(requests) * tokens(plan.state),
        told_tokens=sum(tokens(text) for request in requests for text in texts(request) if is_whole_injection(text)),
        planted=len(asked),
        present=sum(any(turn.needs in text for text in texts(seen)) for turn, seen in asked),
        cached_share=_cached(requests),
        cached_share_without=_cached([request for turn in without for request in turn]),
        refused=sum(count for name, count in counters.items() if name.startswith("refused")),
        mismatches=counters.get("thinking_mismatches", 0),
    )


def _cached(requests: Sequence[Recorded]) -> float:
    """The share of all prompt tokens that was read from the cache."""
    kinds = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    total: int = sum(request.usage[kind] for request in requests for kind in kinds)
    read: int = sum(request.usage["cache_read_input_tokens"] for request in requests)
    return read / total


async def measure(plan: data.Plan, seed: int, folder: Path) -> Result:
    """Run both, the second through a sidecar of its own that keeps its stores in ``folder``. Raises BenchError."""
    async with StrictClaude() as plain:
        without = await converse(plain.url, plain, plan.turns, seed)
    async with StrictClaude() as claude, _sidecar(claude.url, folder) as sidecar:
        await remember(sidecar.admin, sidecar.token, plan.state)
        having = await converse(sidecar.url, claude, plan.turns, seed)
        return compared(plan, without, having, claude)


@asynccontextmanager
async def _sidecar(upstream: str, folder: Path) -> AsyncIterator[running.Running]:
    command = ["up", "-f", str(RESOURCE), "--data", str(folder), "--upstream", upstream, "--listen", "127.0.0.1:0"]
    process = await asyncio.create_subprocess_exec(sidecar_script(), *command, stdout=DEVNULL)
    try:
        deadline = time.monotonic() + READY_S
        while (found := running.read(folder)) is None:
            if time.monotonic() > deadline or process.returncode is not None:
                raise BenchError("the sidecar did not start; its log is above")
            await asyncio.sleep(0.1)
        yield found
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def remember(admin: str, token: str, state: data.Json) -> None:
    """Put a state into the session, through the admin API."""
    headers = {
        "authorization": f"Bearer {token}", "if-match": "*", "content-type": "application/merge-patch+json",
    }  # fmt: skip
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.patch(f"{admin}/v1/sessions/{SESSION}/state", data=json.dumps(state).encode()) as response,
    ):
        if response.status != 200:
            raise BenchError(f"the state was not taken: {response.status} {await response.text()}")


def table(result: Result) -> str:
    """For people, as Markdown."""
    rows = [
        ("turns, requests", f"{result.turns}, {result.requests}"),
        ("the whole state", f"{result.state_tokens:,} tokens"),
        ("whole in each request", f"{result.whole_tokens:,} tokens"),
        ("told, repeated entries included", f"{result.told_tokens:,} tokens: {result.saved:.1%} less"),
        ("planted facts that were there when needed", f"{result.present} of {result.planted}"),
        ("share of prompt tokens read from the cache", f"{result.cached_share:.1%}"),
        ("the same without memory", f"{result.cached_share_without:.1%}"),
        ("requests refused, thinking mismatches", f"{result.refused}, {result.mismatches}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


@click.command(help=__doc__)
@click.option("--turns", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--tokens", "size", type=click.IntRange(min=200), default=20_000, show_default=True, help="Of the state.")
@click.option(
    "--every", type=click.IntRange(min=1), default=2, show_default=True, help="Every which turn asks for a fact."
)
@click.option("--seed", default=1, show_default=True)
@click.option("-o", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(turns: int, size: int, every: int, seed: int, form: str) -> None:
    plan = data.plan(seed, turns, size, tokens, every=every)
    try:
        with tempfile.TemporaryDirectory(prefix="agentmemory-bench-") as folder:
            Path(folder).chmod(0o755)  # embedded servers run as another user
            result = asyncio.run(measure(plan, seed, Path(folder) / "data"))
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    extra = {"saved": round(result.saved, 4), "cached_beside": round(result.cached_beside, 4)}
    click.echo(json.dumps(asdict(result) | extra) if form == "json" else table(result))
    if missed := result.missed():
        click.echo("missed: " + "; ".join(missed), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
