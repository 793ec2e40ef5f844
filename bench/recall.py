"""How much of what a question needs is kept, by strategy and token budget.

    python -m bench.recall --data FILE --budgets 250,500,1000,2000 --strategies lexical,bm25,full [-o json]
    python -m bench.recall --data FILE --strategies lexical,hybrid --embeddings FOLDER

FILE is JSON Lines, one case a line: ``{"name", "facts": [{"id", "text", "time"}], "queries": [{"text", "evidence": [id]}]}``
with facts in the order in which they were learnt. A token is four characters. For each strategy and budget: ``recall``, the
mean share of a query's evidence that is kept; ``tokens`` kept and ``ms`` a query (the index is built once for each case, as
the sidecar does). ``full`` keeps everything whatever the budget: what it costs not to choose. ``hybrid`` has the embedding
model in FOLDER (see docs/filter.md) beside words; facts are embedded beforehand, as in the sidecar's background, queries
within ``ms``.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import click

from agentmemory_sidecar.memory.filter.facts import RawFact
from agentmemory_sidecar.memory.filter.index import WEIGHTS, Index, Weights
from agentmemory_sidecar.memory.filter.lexical import fill
from agentmemory_sidecar.models.embedder import Embedder, NoModel

Case = dict[str, Any]
Keep = Callable[[str, int], list[int]]
"""From a query and a budget to the numbers of the facts that are kept."""


def cost(text: str) -> int:
    """Tokens of a text, as this benchmark counts them."""
    return -(-len(text) // 4)


def lexical(case: Case, weights: Weights = WEIGHTS, near: Callable[[str], Sequence[float]] = lambda _: ()) -> Keep:
    """The sidecar's own index and budget; facts are elements of one list, as rules and extraction store them. ``near`` as in
    ``Hints.near``, for a query."""
    raw = [
        RawFact(f"/extracted_context/facts/{at}", fact["text"], "", str(fact.get("time") or ""))
        for at, fact in enumerate(case["facts"])
    ]
    index, costs = Index(raw, weights), [cost(fact["text"]) for fact in case["facts"]]

    def keep(query: str, budget: int) -> list[int]:
        kept: list[int] = []
        left = budget

        def take(number: int, _score: float) -> bool:
            nonlocal left
            if costs[number] > left:
                return False
            left -= costs[number]
            kept.append(number)
            return True

        fill(index, query, index.scores(query, near(query)), costs, take)
        return kept

    return keep


def hybrid(case: Case, embed: Embedder) -> Keep:
    """The same with what the facts mean."""
    from agentmemory_sidecar.memory.filter.meaning import Meaning

    texts, meaning = tuple(fact["text"] for fact in case["facts"]), Meaning()
    new = meaning.unknown(texts)
    meaning.keep(new, embed(new))
    return lexical(case, near=lambda query: meaning.near(texts, embed([query], asking=True)))


def bm25(case: Case, k1: float = 1.5, b: float = 0.75) -> Keep:
    """Plain BM25 over lower-cased ``[a-z0-9]+`` words: whole facts in the order of their scores, as long as they fit."""
    documents = [Counter(re.findall("[a-z0-9]+", fact["text"].lower())) for fact in case["facts"]]
    lengths = [document.total() for document in documents]
    average = sum(lengths) / max(1, len(lengths)) or 1.0
    frequency = Counter(term for document in documents for term in document)
    costs = [cost(fact["text"]) for fact in case["facts"]]

    def score(number: int, terms: Sequence[str]) -> float:
        document, norm = documents[number], k1 * (1 - b + b * lengths[number] / average)
        return sum(
            log(1 + (len(documents) - frequency[term] + 0.5) / (frequency[term] + 0.5))
            * document[term] * (k1 + 1) / (document[term] + norm)
            for term in terms
        )  # fmt: skip

    def keep(query: str, budget: int) -> list[int]:
        terms = [term for term in re.findall("[a-z0-9]+", query.lower()) if term in frequency]
        scores = [score(number, terms) for number in range(len(documents))]
        kept = []
        for number in sorted(range(len(documents)), key=lambda number: -scores[number]):
            if scores[number] > 0 and costs[number] <= budget:
                budget -= costs[number]
                kept.append(number)
        return kept

    return keep


def full(case: Case) -> Keep:
    """Everything."""
    numbers = list(range(len(case["facts"])))
    return lambda _query, _budget: numbers


STRATEGIES: dict[str, Callable[[Case], Keep]] = {"lexical": lexical, "bm25": bm25, "full": full}


def measure(
    cases: Sequence[Case], strategies: dict[str, Callable[[Case], Keep]], budgets: Sequence[int]
) -> list[dict[str, Any]]:
    """One row for each strategy and budget."""
    rows = []
    for name, make in strategies.items():
        recalls, tokens, seconds = (dict.fromkeys(budgets, 0.0) for _ in range(3))
        asked = 0
        for case in cases:
            keep = make(case)
            numbers = {fact["id"]: at for at, fact in enumerate(case["facts"])}
            for query in case["queries"]:
                evidence = {numbers[one] for one in query["evidence"]}
                if not evidence:
                    continue
                asked += 1
                for budget in budgets:
                    start = time.perf_counter()
                    kept = keep(query["text"], budget)
                    seconds[budget] += time.perf_counter() - start
                    recalls[budget] += len(evidence.intersection(kept)) / len(evidence)
                    tokens[budget] += sum(cost(case["facts"][at]["text"]) for at in kept)
        count = max(asked, 1)
        rows += [
            {
                "strategy": name, "budget": budget, "recall": round(recalls[budget] / count, 4),
                "tokens": round(tokens[budget] / count, 1), "ms": round(1000 * seconds[budget] / count, 3),
            }
            for budget in budgets
        ]  # fmt: skip
    return rows


def read(path: Path) -> list[Case]:
    """The cases of a file. Raises click.UsageError saying which line is wrong."""
    cases = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            case = json.loads(line)
            known = {fact["id"] for fact in case["facts"] if isinstance(fact["text"], str)}
            missing = {one for query in case["queries"] for one in query["evidence"] if query["text"]} - known
        except (ValueError, KeyError, TypeError) as error:
            raise click.UsageError(
                f"{path}, line {number}: no case ({error!r}); see python -m bench.recall --help"
            ) from error
        if missing:
            raise click.UsageError(
                f"{path}, line {number}: evidence names no fact: {', '.join(sorted(map(str, missing))[:5])}"
            )
        cases.append(case)
    return cases


@click.command(help=__doc__)
@click.option("--data", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--budgets", default="250,500,1000,2000", show_default=True, help="Tokens, separated by commas.")
@click.option("--strategies", default="lexical,bm25,full", show_default=True)
@click.option(
    "--embeddings",
    type=click.Path(path_type=Path),
    envvar="AGENTMEMORY_EMBEDDINGS",
    show_envvar=True,
    help="The folder of hybrid's embedding model.",
)
@click.option("-o", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(data: Path, budgets: str, strategies: str, embeddings: Path | None, form: str) -> None:
    try:
        numbers = [int(one) for one in budgets.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--budgets {budgets}: give whole numbers separated by commas") from error
    names = [name.strip().lower() for name in strategies.split(",")]
    known = dict(STRATEGIES)
    if embeddings is not None:
        try:
            known["hybrid"] = partial(hybrid, embed=Embedder(embeddings))
        except NoModel as error:
            raise click.UsageError(f"--embeddings: {error}") from error
    for name in names:
        if name not in known:
            more = "" if "hybrid" in known else ", or hybrid with --embeddings"
            raise click.UsageError(f"no strategy is called {name}: use {', '.join(known)}{more}")
    rows = measure(read(data), {name: known[name] for name in names}, numbers)
    if form == "json":
        click.echo(json.dumps(rows))
        return
    click.echo(f"{'strategy':<10}{'budget':>8}{'recall':>9}{'tokens':>9}{'ms':>9}")
    for row in rows:
        click.echo(
            f"{row['strategy']:<10}{row['budget']:>8}{row['recall']:>9.4f}{row['tokens']:>9.1f}{row['ms']:>9.3f}"
        )


if __name__ == "__main__":
    main()
