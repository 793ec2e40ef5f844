"""The sidecar as a user starts it: ``agentmemory up`` with embedded stores, in a process of its own.

All that these tests know of its command line and of its admin port is in this file.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.clients.driving import SESSION_HEADER
from tests.clients.servers import Server

LAST_LOOKUP = "/extracted_context/last_lookup"
"""Where the resource's rule puts what the drivers' ``lookup`` tool was asked for."""

RESOURCE: dict[str, Any] = {
    "apiVersion": "agentmemory.io/v1alpha1",
    "kind": "AgentMemory",
    "metadata": {"name": "clients", "namespace": "tests"},
    "spec": {
        "ephemeral": {"embedded": {}},
        "state": {"embedded": {}},
        "archive": {"embedded": {}},
        "session": {"identity": {"headers": [SESSION_HEADER]}},
        # Pinned, so that each turn after a new look-up has something to inject whatever its question is.
        "filter": {"strategy": "Lexical", "budgetTokens": 1000, "pinned": ["/active_mission/goal", LAST_LOOKUP]},
        "extraction": {"rules": [{"tools": ["lookup"], "when": "Call", "from": "/key", "to": LAST_LOOKUP}]},
    },
}
"""As ``examples/quickstart.yaml``, with a rule of its own."""


class Sidecar(Server):
    """One sidecar and its embedded stores, whose data outlive it in ``directory``."""

    name = "sidecar"

    def __init__(self, directory: Path, upstream: str) -> None:
        super().__init__(directory)
        self.upstream = upstream
        self.file = directory / "agentmemory.yaml"
        self.file.write_text(yaml.safe_dump(RESOURCE))

    def command(self) -> Sequence[str]:
        listen = f"127.0.0.1:{self.port}"
        program = str(Path(sys.executable).with_name("agentmemory"))
        data = str(self.directory / "data")
        return [program, "up", "-f", str(self.file), "--listen", listen, "--upstream", self.upstream, "--data", data]

    def kill(self) -> None:
        """End the sidecar and its Valkey with SIGKILL, the hot tier first, so that nothing is flushed or released."""
        sidecar = psutil.Process(self.pid)
        for child in sidecar.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "valkey" in child.name():
                    child.kill()
        super().kill()

    def restart(self) -> None:
        """After :meth:`kill`: the same command again, on the same port and data."""
        self.start()
