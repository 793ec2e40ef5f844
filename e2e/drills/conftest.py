"""The installation that the drills share, and what is kept when one fails."""

from collections.abc import AsyncIterator, Generator
from pathlib import Path
from uuid import uuid4

import pytest

from e2e.cluster.install import dump, install
from e2e.cluster.shell import kubectl

LOGS = Path("build/e2e")
PASSED = LOGS / "passed"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="every drill; what has passed before is left out")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    everything = bool(config.getoption("--all"))
    passed = PASSED.read_text().splitlines() if everything and PASSED.exists() else []
    for item in items:
        if item.get_closest_marker("all") and not everything:
            item.add_marker(pytest.mark.skip(reason="only in make e2e-all"))
        elif item.nodeid in passed:
            item.add_marker(pytest.mark.skip(reason=f"has passed before: remove {PASSED} to run it again"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        folder = dump(LOGS / item.name)
        report.sections.append(("cluster", f"logs, events and descriptions are in {folder}"))
    elif report.when == "call" and report.passed:
        LOGS.mkdir(parents=True, exist_ok=True)
        with PASSED.open("a") as file:
            file.write(item.nodeid + "\n")
    return report


@pytest.fixture(scope="session", autouse=True)
async def installation() -> None:
    """Our charts by helm, as a user would, and the stand-ins. An installation that is there is upgraded."""
    await install()


@pytest.fixture
async def namespace() -> AsyncIterator[str]:
    """A namespace in which only `restricted` pods are admitted."""
    name = f"drill-{uuid4().hex[:8]}"
    await kubectl("create", "namespace", name)
    await kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    await kubectl("delete", "namespace", name, "--wait=false")
