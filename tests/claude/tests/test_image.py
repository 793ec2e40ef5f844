"""The drills' image holds what the strict Claude imports: it is not found out on a cluster."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
DISTRIBUTIONS = {"jsonschema_rs": "jsonschema-rs"}
"""Of modules that are not named as what is installed."""


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"tests", "pytest"}  # its fixtures stay out of the image


def test_image_installs_what_is_imported() -> None:
    files = [*(ROOT / "tests/claude").glob("*.py"), ROOT / "e2e/agent.py"]
    found = re.search(r"pip install (.*?)\nCOPY", (ROOT / "e2e/Dockerfile").read_text(), re.DOTALL)
    assert found is not None
    installed = set(found[1].replace("\\", "").split())

    needed = {DISTRIBUTIONS.get(name, name) for file in files for name in imported(file)}

    assert "aiohttp" in needed
    assert needed <= installed, f"e2e/Dockerfile does not install {needed - installed}"
