import json

import pytest
from click.testing import CliRunner

from bench import recall, recall_data

CASE = {
    "name": "tiny",
    "facts": [
        {"id": "1", "text": "Ann: I painted the fence in green", "time": "1:00 pm on 8 May, 2023"},
        {"id": "2", "text": "Bob: the the the what is", "time": "1:00 pm on 8 May, 2023"},
        {"id": "3", "text": "Ann: something else entirely", "time": "1:00 pm on 9 May, 2023"},
    ],
    "queries": [{"text": "What is the colour of Ann's painting?", "evidence": ["1"]}],
}


def write(tmp_path, *lines):
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(lines))
    return str(file)


def run(*arguments):
    return CliRunner().invoke(recall.main, list(arguments))


def test_each_strategy_and_budget_is_a_row(tmp_path):
    file = write(tmp_path, json.dumps(CASE))
    rows = json.loads(run("--data", file, "--budgets", "9,100", "-o", "json").stdout)
    assert [(row["strategy"], row["budget"]) for row in rows] == [
        (strategy, budget) for strategy in ("lexical", "bm25", "full") for budget in (9, 100)
    ]
    assert [row["recall"] for row in rows] == [1, 1, 0, 1, 1, 1]
    assert rows[0]["tokens"] == 9
    assert rows[4]["tokens"] == sum(recall.cost(fact["text"]) for fact in CASE["facts"])
    assert all(row["ms"] >= 0 for row in rows)
    assert "lexical" in run("--data", file).stdout


def test_bm25_is_plain():
    keep = recall.bm25({"facts": [{"text": "a cat"}, {"text": "a dog a dog"}, {"text": "Dog"}], "queries": []})
    assert keep("DOG!", 100) == [2, 1]
    assert keep("dogs", 100) == []
    assert keep("dog", 2) == [2]


@pytest.mark.parametrize("name", ["lexical", "bm25"])
def test_no_strategy_exceeds_its_budget(name):
    for case in recall_data.generate(5, 3, 60):
        keep = recall.STRATEGIES[name](case)
        for query in case["queries"]:
            for budget in (0, 7, 60):
                kept = keep(query["text"], budget)
                assert len(set(kept)) == len(kept)
                assert sum(recall.cost(case["facts"][at]["text"]) for at in kept) <= budget


def test_lexical_keeps_more_than_bm25_on_every_kind_of_made_data():
    for case in recall_data.generate(7, 4, 300):
        rows = recall.measure([case], {name: recall.STRATEGIES[name] for name in ("lexical", "bm25")}, [250])
        assert rows[0]["recall"] > rows[1]["recall"], case["name"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(["--budgets", "a"], "whole numbers"), (["--strategies", "best"], "no strategy is called best")],
)
def test_bad_options_are_explained(tmp_path, arguments, what):
    result = run("--data", write(tmp_path, json.dumps(CASE)), *arguments)
    assert result.exit_code == 2
    assert what in result.stderr


@pytest.mark.parametrize("line", ["{", "[]", '{"facts":[]}', json.dumps({**CASE, "facts": []})])
def test_a_bad_line_is_named(tmp_path, line):
    result = run("--data", write(tmp_path, json.dumps(CASE), line))
    assert result.exit_code == 2
    assert "line 2" in result.stderr
