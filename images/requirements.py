"""Prints what an extra of pyproject.toml needs, one requirement a line: an image installs that first, and our own code last,
so that a change of code fetches none of it again."""

import re
import sys
import tomllib
from pathlib import Path

OWN = re.compile(r"agentmemory-operator\[([\w,]+)\]")


def needs(project: dict[str, list[str]], extra: str) -> list[str]:
    """The extra's requirements, those of extras that it names among them."""
    found: list[str] = []
    for need in project[extra]:
        match = OWN.fullmatch(need)
        found += [one for name in match[1].split(",") for one in needs(project, name)] if match else [need]
    return found


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    print(*project["dependencies"], *needs(project["optional-dependencies"], sys.argv[1]), sep="\n")
