"""A report on paper: its verdict, its numbers, and the notes that are missing."""

import json

from agentmemory_operator.drill.evaluate import evaluate
from agentmemory_operator.drill.render import as_json, as_markdown
from tests.operator.drill.runs import EAST, WEST, run, view
from tests.operator.drill.test_evaluate import BUDGETS, LOST, MOVED


def test_json_has_every_number_and_the_verdict() -> None:
    found = json.loads(as_json(evaluate(run(*MOVED), BUDGETS)))
    assert found["acknowledged"] == 3
    assert found["lost"] == {"TimeoutError": 1}
    assert found["lines"][0]["writer"] == "a"
    assert found["missing"] == {EAST: [], WEST: []}
    assert found["passed"] is False, "its longest gap is over the budget"


def test_markdown_names_what_is_missing() -> None:
    report = evaluate(
        run(*MOVED, final=(view(EAST, *(each.note for each in MOVED)), view(WEST, LOST.note, MOVED[2].note))), BUDGETS
    )
    text = as_markdown(report)
    assert text.startswith(f"# Drill: region of {EAST}: FAILED\n")
    assert f"- missing in {WEST}: {MOVED[0].note}, {MOVED[3].note}" in text
    assert "| acknowledged turns missing (RPO) | us-east-1 0, us-west-2 2 | 0 | **failed** |" in text
