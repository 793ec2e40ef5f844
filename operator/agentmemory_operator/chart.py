"""The settings' models as a part of the chart's `values.schema.json`: `python -m agentmemory_operator.chart [--check]`.

What Helm refuses is then what the operator would refuse, before anything is installed. The rest of that file is written
by hand. With `--check` nothing is written: it exits 1 where the file differs from the models.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentmemory_operator.settings import Settings

FILE = Path("charts/agentmemory/values.schema.json")
"""From the repository's root."""
BY_THE_CHART = ("operatorNamespace", "webhook")
"""Settings that the chart fills in: nobody gives them as values."""


def settings_schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of the value `settings`, and the definitions that it refers to."""
    whole = Settings.model_json_schema()
    definitions: dict[str, Any] = whole.pop("$defs", {})
    for name in BY_THE_CHART:
        del whole["properties"][name]
    used = json.dumps([whole, definitions])
    return whole, {name: inner for name, inner in definitions.items() if f"#/$defs/{name}\"" in used}


def text(current: str) -> str:
    """The file with its part about the settings made anew."""
    schema = json.loads(current)
    schema["properties"]["settings"], schema["$defs"] = settings_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m agentmemory_operator.chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the file differs")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root")
    options = parser.parse_args(arguments)
    file: Path = options.root / FILE
    current = file.read_text(encoding="utf-8")
    wanted = text(current)
    if current == wanted:
        return 0
    if options.check:
        print(f"{FILE} differs from the models: run python -m agentmemory_operator.chart", file=sys.stderr)
        return 1
    file.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
