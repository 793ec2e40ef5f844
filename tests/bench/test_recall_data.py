import json

from click.testing import CliRunner

from bench import recall, recall_data


def test_the_same_seed_gives_the_same_cases_in_the_documented_form(tmp_path):
    files = [tmp_path / name for name in ("a", "b", "c")]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        assert (
            CliRunner()
            .invoke(recall_data.main, ["--seed", seed, "--cases", "4", "--size", "80", "-o", str(file)])
            .exit_code
            == 0
        )
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    cases = recall.read(files[0])
    assert [case["name"] for case in cases] == ["talk", "work", "profile", "chat"]
    for case in cases:
        assert len(case["facts"]) >= 80
        assert case["queries"]
        assert set(case["facts"][0]) == {"id", "text", "time"}


def test_no_evidence_stands_twice_in_its_case():
    for case in recall_data.generate(3, 4, 200):
        texts = [fact["text"] for fact in case["facts"]]
        by_id = {fact["id"]: fact["text"] for fact in case["facts"]}
        assert all(texts.count(by_id[one]) == 1 for query in case["queries"] for one in query["evidence"])
        json.dumps(case)
