"""The command as a whole."""

from importlib.metadata import version

import pytest

from tests.sidecar.cli.conftest import Run


def test_help_lists_every_command(run: Run) -> None:
    ran = run("--help")

    assert ran.code == 0
    for name in ("up", "run", "session", "filter"):
        assert f"\n  {name} " in ran.out


@pytest.mark.parametrize("arguments", [["nothing"], ["--nothing"], ["up", "--nothing"]], ids=" ".join)
def test_what_is_unknown_is_one_line_and_exit_code_2(refused: Run, arguments: list[str]) -> None:
    assert "nothing" in refused(*arguments).complaint


def test_version_is_the_distributions(run: Run) -> None:
    assert run("--version").out.strip() == f"agentmemory, version {version('agentmemory-operator')}"
