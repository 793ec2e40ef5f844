import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import SecretStr

from agentmemory_operator import crd
from agentmemory_operator.cli.crd import crd as command
from agentmemory_sidecar.resource import AgentMemory, Installation, ResourceError, Unresolved, compile_resource, parse
from agentmemory_sidecar.resource.base import CEL
from agentmemory_sidecar.resource.common import ValueFrom
from agentmemory_sidecar.resource.store_config import RedisHot
from tests.operator.bad_resources import cases
from tests.operator.cluster import agentmemory

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
REFUSED, ACCEPTED = cases("refused"), cases("accepted")


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its place."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from parts(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from parts(schema[name], f"{path}[]")


def spec() -> dict[str, Any]:
    found: dict[str, Any] = crd.resource_schema()["properties"]["spec"]
    return found


def test_the_files_are_what_the_models_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--check", "--root", str(ROOT)]) == 0, capsys.readouterr().err


def test_a_stale_file_is_named_and_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--root", str(tmp_path)]) == 0
    stale = tmp_path / crd.FILES[0]
    stale.write_text("old")
    assert crd.main(["--check", "--root", str(tmp_path)]) == 1
    assert f"{crd.FILES[0]} differs from the models" in capsys.readouterr().err
    assert stale.read_text() == "old"


def test_the_command_prints_what_the_api_server_takes() -> None:
    printed = CliRunner().invoke(command)
    assert printed.exit_code == 0
    assert yaml.safe_load(printed.stdout) == crd.definition()


def test_the_schema_is_structural_and_bounded() -> None:
    for path, part in parts(crd.resource_schema()):
        assert not {"$ref", "$defs", "title", "oneOf", "allOf", "const"} & part.keys(), path
        assert part.get("additionalProperties") is not False, path
        assert "type" in part or part.get(crd.FREE) or part.get(crd.INT_OR_STRING), path
        assert ("anyOf" in part) == (crd.INT_OR_STRING in part), path
        if not path.startswith(".spec"):
            continue
        if part.get("type") == "string":
            assert "maxLength" in part or "enum" in part or "format" in part, path
        if part.get("type") == "array":
            assert "maxItems" in part, path
        if "additionalProperties" in part:
            assert "maxProperties" in part, path


def test_the_definition_fits_what_kubectl_remembers_of_it() -> None:
    """`kubectl apply` keeps the whole object in an annotation, and all annotations together may have 256 KiB."""
    assert len(json.dumps(crd.definition())) < 200 * 1024


def test_helm_finds_nothing_of_its_own_in_the_definition() -> None:
    assert "{{" not in crd.text()


def test_a_union_of_types_is_refused() -> None:
    with pytest.raises(ValueError, match="a union of 2 types is not structural"):
        crd.structural({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {})


# ------------------------------------------------------------------------------------------------------------- rules


def test_whatever_is_immutable_cannot_be_taken_out_either() -> None:
    schema = spec()
    forbidden = [
        rule["rule"] for _, part in parts(schema) for rule in part.get(CEL, ()) if "has(oldSelf" in rule["rule"]
    ]
    assert sorted(forbidden) == [
        "!has(oldSelf.cosmosdb) || has(self.cosmosdb)",
        "!has(oldSelf.dynamodb) || has(self.dynamodb)",
        "!has(oldSelf.postgres) || has(self.postgres)",
        "!has(oldSelf.postgres) || has(self.postgres)",
        "!has(oldSelf.s3) || has(self.s3)",
        "has(self.tenant) == has(oldSelf.tenant)",
    ]
    assert "default" in schema["properties"]["state"]  # so that it is there even when it is taken out
    assert "default" in schema["properties"]["archive"]
    assert "default" in schema["properties"]["state"]["properties"]["dynamodb"]["properties"]["consistency"]


def test_immutable_marks_are_in_objects_only() -> None:
    """An entry can leave a list, and no rule on the list knows which one was meant."""
    marked = [path for path, part in parts(spec()) if any(rule["rule"] == crd.UNCHANGED for rule in part.get(CEL, ()))]
    assert marked
    assert not any("[]" in path for path in marked)


def test_each_list_by_region_has_its_rule() -> None:
    lists = [path[1:] for path, part in parts(spec()) if path.endswith(".perRegion")]
    rules = [rule["rule"] for rule in spec()[CEL]]
    assert len(lists) == 8
    for path in lists:
        assert any(rule.endswith(f"self.{path}.all(entry, entry.region in self.regions)") for rule in rules), path


# ----------------------------------------------------------------------------------------------------------- defaults


def filled(schema: dict[str, Any], value: Any) -> Any:
    """What the API server stores for ``value``: without nulls and unknown fields, with defaults."""
    if isinstance(value, list):
        return [filled(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    known = schema["properties"]
    found = {name: filled(known[name], item) for name, item in value.items() if item is not None and name in known}
    defaults = {name: inner["default"] for name, inner in known.items() if "default" in inner}
    return defaults | found


class Known:
    """Every reference has a value."""

    def resolve(self, source: ValueFrom) -> str:
        if source.env == "NOWHERE":
            raise Unresolved("is nowhere")
        return "postgresql://memory@postgres/memory"


def compiled(resource: AgentMemory, tmp_path: Path) -> list[str]:
    """The configuration of each region's sidecars, as text."""
    redis = RedisHot(urls=("redis://redis",), cluster=True, username="a", password=SecretStr("b"), tls=None)
    installation = Installation(managed_redis=redis)
    return [
        compile_resource(
            resource, region, values=Known(), data_dir=tmp_path, installation=installation
        ).model_dump_json()
        for region in resource.spec.regions
    ]


SPECS: list[Any] = [
    None,
    {},
    {"tenant": None, "ephemeral": None, "state": {"ttl": None}},
    {"ephemeral": {"redis": {"managed": {"perRegion": [{"region": "local", "shards": 5}]}, "turns": 3}}},
    {"extraction": {"rules": [{"tools": ["a"], "to": "/a"}]}, "filter": {"pinned": []}},
    {
        "regions": ["us-east-1", "us-west-2"],
        "archive": {"s3": {"bucketPrefix": "acme", "objectLock": {"days": 1}, "perRegion": [{"region": "us-west-2"}]}},
        "session": {"lock": {"ttl": "30s"}},
    },
    *(yaml.safe_load(file.read_text(encoding="utf-8"))["spec"] for file in EXAMPLES),
]


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return value


@pytest.mark.parametrize("written", SPECS, ids=str)
def test_defaults_filled_in_by_the_api_server_change_nothing(written: Any, tmp_path: Path) -> None:
    plain = agentmemory(without_nulls(written))
    stored = filled(crd.resource_schema(), agentmemory(written) | {"metadata": {}}) | {"metadata": plain["metadata"]}
    assert stored != plain
    before, after = parse(plain), parse(stored)
    assert after.spec == before.spec
    assert compiled(after, tmp_path) == compiled(before, tmp_path)


# ------------------------------------------------------------------------------------------------------ bad resources


def test_there_are_enough_bad_resources() -> None:
    assert len(REFUSED) + len(ACCEPTED) >= 30
    for all_of_one in (REFUSED, ACCEPTED, cases("changes")):
        assert len({case["name"] for case in all_of_one}) == len(all_of_one)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_a_laptop_refuses_what_the_api_server_refuses(case: dict[str, Any]) -> None:
    with pytest.raises(ResourceError) as refused:
        parse(agentmemory(case["spec"]))
    assert any(case["field"] in problem for problem in refused.value.problems), refused.value.problems


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case["name"])
def test_the_operator_names_field_and_fix_of_what_the_api_server_takes(case: dict[str, Any]) -> None:
    with pytest.raises(ResourceError) as refused:
        parse(filled(crd.resource_schema(), agentmemory(case["spec"])) | {"metadata": {"name": "test"}})
    assert all(text in str(refused.value) for text in case["says"]), str(refused.value)
