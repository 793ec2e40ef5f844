"""What the documentation names exists: files, headings, make targets, commands with their options, resources, metrics."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from agentmemory_sidecar.cli.main import agentmemory
from agentmemory_sidecar.metrics import Metrics
from agentmemory_sidecar.pod.metrics import PodMetrics
from agentmemory_sidecar.resource import LocalValues, compile_resource, load

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "bench/*.md", "tests/*/README.md", "examples/*.md")
    for page in ROOT.glob(pattern)
)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?<![\w/.-])agentmemory ((?:up|run|session|explain|filter|sidecar|stores)\b[^`\n|#;]*)")
COMMENT = re.compile(r"^#.*?\bagentmemory ((?:up|run|session|filter)\b[^`\n]*)", re.MULTILINE)
MAKE = re.compile(r"(?:`|^ {4}(?:\w+=\S+ )*)make ((?:[a-z0-9]+ ?)+)", re.MULTILINE)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    return page.read_text()


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", text).lower()).replace(" ", "-") for text in headings}


def test_there_are_pages() -> None:
    assert {ROOT / "README.md", ROOT / "docs/index.md", ROOT / "docs/limits.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page_id(page)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page_id(page)} links to {target}"


def test_index_names_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    named = {(index.parent / target).resolve() for target in LINK.findall(index.read_text())}
    assert set((ROOT / "docs").rglob("*.md")) - {index} <= named


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for names in MAKE.findall(prose(page)):
        assert set(names.split()) <= targets, f"{page_id(page)}: make {names}"


def resources() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for language, text in FENCE.findall(prose(page)):
            if language == "yaml" and "AgentMemory" in text:
                yield page_id(page), text


def test_readme_shows_a_resource() -> None:
    assert "README.md" in {page for page, _ in resources()}


@pytest.mark.parametrize(("page", "text"), list(resources()))
def test_shown_resources_load(page: str, text: str, tmp_path: Path) -> None:
    assert yaml.safe_load(text)["kind"] == "AgentMemory"
    file = tmp_path / "shown.yaml"
    file.write_text(text)
    resource = load(file)
    values = LocalValues(tmp_path, None, {"FILTER_API_KEY": "shown", "EXTRACTION_API_KEY": "shown"})
    compile_resource(resource, resource.spec.regions[0], values=values, data_dir=tmp_path)


@pytest.mark.parametrize("file", EXAMPLES, ids=page_id)
def test_examples_load(file: Path) -> None:
    assert load(file).kind == "AgentMemory"


def shown_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for command in COMMAND.findall(prose(page)):
            yield page_id(page), command
    for file in EXAMPLES:
        for command in COMMENT.findall(file.read_text()):
            yield page_id(file), command


def problem(shown: str) -> str:
    """Why a shown command is none; empty where it is one. What it would be given is not looked at."""
    words = shown.replace("[", " ").replace("]", " ").split(" -- ")[0].split()
    command: click.Command = agentmemory
    context = click.Context(command)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z]+", words[0]):
        name = words.pop(0)
        below = command.get_command(context, name)
        if below is None:
            return f"there is no command {name}"
        command = below
    options = {name for parameter in command.params for name in parameter.opts} | {"--help", "--"}
    unknown = [word.rstrip(",.)") for word in words if re.match(r"-{1,2}[a-z]", word)]
    return ", ".join(f"{command.name} has no option {word}" for word in unknown if word.split("=")[0] not in options)


@pytest.mark.parametrize(("page", "shown"), sorted(set(shown_commands())))
def test_shown_commands_exist(page: str, shown: str) -> None:
    assert problem(shown) == ""


def test_commands_that_are_none_are_found() -> None:
    assert problem("up -f FILE") == ""
    assert "no option --files" in problem("up --files FILE")
    assert "no command shows" in problem("session shows ID")


def test_cli_page_names_every_option() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    context = click.Context(agentmemory)
    for name in agentmemory.list_commands(context):
        command = agentmemory.get_command(context, name)
        assert command is not None
        below = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        for one in below:
            for option in one.params:
                if isinstance(option, click.Option):
                    assert option.opts[0] in page, f"agentmemory {name} {one.name}: {option.opts[0]}"


def test_metrics_page_names_every_metric() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    registry = Metrics().registry
    PodMetrics(registry)
    known = {family.name for family in registry.collect()}
    for family in known:
        assert re.search(rf"`{family}(_total)?`", page), family
    for name in re.findall(r"`(agentmemory_\w+?)(?:_total)?`", page):
        assert name in known, name
