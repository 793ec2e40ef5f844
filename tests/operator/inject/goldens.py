"""The golden pods: what goes in, and what must come out.

``golden/NAME.pod.yaml`` is a pod as admission sees it, ``NAME.settings.yaml`` the installation's values if they matter, and
``NAME.patch.json`` the decision. After a wanted change, ``python -m tests.operator.inject.goldens`` writes the decisions
anew; read the difference before you commit it.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from agentmemory_operator.inject.patch import Decision, inject
from agentmemory_operator.settings import Settings

FOLDER = Path(__file__).parent / "golden"
NAMESPACE = "agents"
NAMES = sorted(path.name.removesuffix(".pod.yaml") for path in FOLDER.glob("*.pod.yaml"))


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.pod.yaml").read_text())
    return found


def settings(name: str) -> Settings:
    file = FOLDER / f"{name}.settings.yaml"
    return Settings.read(file) if file.exists() else Settings()


def decide(name: str) -> Decision:
    return inject(pod(name), NAMESPACE, settings(name))


def shown(decision: Decision) -> dict[str, Any]:
    """A decision as a golden file has it: what is empty is left out."""
    everything = {
        "allowed": decision.allowed,
        "reason": str(decision.reason),
        "message": decision.message,
        "warnings": list(decision.warnings),
        "patch": list(decision.patch),
    }
    return {key: value for key, value in everything.items() if value or key == "allowed"}


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.patch.json").read_text())
    return found


if __name__ == "__main__":
    for each in NAMES:
        text = json.dumps(shown(decide(each)), indent=2, ensure_ascii=False)
        (FOLDER / f"{each}.patch.json").write_text(text + "\n")
