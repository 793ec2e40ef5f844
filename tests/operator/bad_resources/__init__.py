"""Bad resources, each with what is said about it. See the YAML files beside this one."""

from pathlib import Path
from typing import Any

import yaml


def cases(name: str) -> list[Any]:
    """The entries of ``<name>.yaml``."""
    found: list[Any] = yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))
    return found
