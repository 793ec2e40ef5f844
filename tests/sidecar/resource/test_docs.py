from pathlib import Path

import pytest
from pydantic import BaseModel

from agentmemory_sidecar.resource.agentmemory import AgentMemory, Spec
from agentmemory_sidecar.resource.config import SidecarConfig
from agentmemory_sidecar.resource.docs import _models, main, pages

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def every_model(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for inner in _models(field):
                every_model(inner, seen)
    return seen


MODELS = sorted(every_model(AgentMemory, set()) | every_model(SidecarConfig, set()), key=lambda model: model.__name__)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_and_field_has_a_docstring(model: type[BaseModel]) -> None:
    assert model.__doc__
    assert model.__doc__.strip().endswith(".")
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no docstring"
        assert field.description.rstrip().endswith("."), f"{model.__name__}.{name}: no sentence"


def test_every_list_and_text_of_the_resource_is_bounded() -> None:
    """The API server estimates what its rules cost, and gives up on what has no bound."""
    checked = 0
    for model, definition in Spec.model_json_schema()["$defs"].items():
        for name, field in definition.get("properties", {}).items():
            for part in [field, *field.get("anyOf", [])]:
                checked += 1
                if part.get("type") == "array":
                    assert "maxItems" in part, f"{model}.{name}"
                if part.get("type") == "string" and "x-kubernetes-int-or-string" not in field:
                    assert "maxLength" in part or "enum" in part, f"{model}.{name}"
    assert checked > 200


def test_the_pages_in_the_repository_are_current() -> None:
    assert main(["--check", "--out", str(REFERENCE)]) == 0


def test_pages_that_differ_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--check", "--out", str(tmp_path)]) == 0
    (tmp_path / "resource.md").write_text("old")
    (tmp_path / "config.md").unlink()
    assert main(["--check", "--out", str(tmp_path)]) == 1
    complaints = capsys.readouterr().err.splitlines()
    assert [line.split(" differs")[0] for line in complaints] == [
        str(tmp_path / "resource.md"),
        str(tmp_path / "config.md"),
    ]
    assert (tmp_path / "resource.md").read_text() == "old"


def test_the_page_tells_types_bounds_and_defaults() -> None:
    page = pages()["resource.md"]
    for row in (
        "| `ttl` | duration, 5s to 10m | `1m` | How long a lock outlives",
        "| `turns` | integer, 1 to 100 | `5` |",
        "| `strategy` | `Lexical` \\| `SubAgent` \\| `Hybrid` \\| `None` | `Lexical` |",
        "| `table` | text | *required* |",
        "| `passwordFrom` | [ValueFrom](#valuefrom) | - |",
        "| `perRegion[].bucket` | text | - |",
        "### ValueFrom",
    ):
        assert row in page
