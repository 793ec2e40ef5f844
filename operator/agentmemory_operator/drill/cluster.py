"""What a drill makes on a cluster, and how it talks to it: ``kubectl``, with the rights of whoever runs the drill."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentmemory_operator.drill.course import LookFailed
from agentmemory_operator.drill.ledger import View
from agentmemory_operator.drill.line import SCRIPT, Line, Lost
from agentmemory_operator.drill.view import SHOW, view
from agentmemory_operator.plan.security import of_container

LABEL = "agentmemory.io/drill"
AGENT, SIDECAR = "agent", "agentmemory"


class KubectlFailed(Exception):
    """kubectl ended with another code than 0; the text is what it said last."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One cluster's kubectl, as the beginning of a command line."""

    prefix: tuple[str, ...]

    async def run(self, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> str:
        """What it printed. Raises KubectlFailed, also when it takes too long."""
        process = await asyncio.create_subprocess_exec(
            *self.prefix, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate(stdin.encode())
        except TimeoutError:
            raise KubectlFailed(f"kubectl {arguments[0]} does not end within {timeout_s:.0f} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            said = err.decode(errors="replace").strip().splitlines()
            raise KubectlFailed(said[-1] if said else f"kubectl {arguments[0]}: code {process.returncode}")
        return out.decode()

    async def json(self, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> Any:
        return json.loads(await self.run(*arguments, "-o", "json", stdin=stdin, timeout_s=timeout_s))


@dataclass(frozen=True, slots=True)
class Place:
    """A region's agents: pods of one Deployment, behind one kubectl."""

    region: str
    kubectl: Kubectl
    namespace: str
    name: str
    """The Deployment's, and the value of its pods' label ``LABEL``."""

    async def pods(self) -> list[str]:
        """Those that are ready, the newest last. Raises KubectlFailed."""
        found = await self.kubectl.json("-n", self.namespace, "get", "pods", "-l", f"{LABEL}={self.name}", timeout_s=10)
        ready = [
            pod
            for pod in found["items"]
            if not pod["metadata"].get("deletionTimestamp")
            and any(row["type"] == "Ready" and row["status"] == "True" for row in pod["status"].get("conditions") or ())
        ]
        return [pod["metadata"]["name"] for pod in sorted(ready, key=lambda pod: pod["metadata"]["creationTimestamp"])]

    def line(self) -> Line:
        return Line(self._command)

    async def look(self, session: str) -> View:
        """Raises LookFailed."""
        try:
            for pod in (await self.pods())[:1]:
                command = ("-n", self.namespace, "exec", pod, "-c", SIDECAR, "--", *SHOW, session)
                return view(self.region, session, await self.kubectl.run(*command, timeout_s=15))
        except (KubectlFailed, ValueError, KeyError) as error:
            raise LookFailed(f"{self.region}: {error}") from error
        raise LookFailed(f"{self.region}: no pod is ready")

    async def _command(self) -> Sequence[str]:
        try:
            pods = await self.pods()
        except KubectlFailed as error:
            raise Lost(str(error)) from None
        if not pods:
            raise Lost("no pod is ready")
        run = ("exec", "-i", pods[0], "-c", AGENT, "--", "python", "-u", "-c", SCRIPT)
        return (*self.kubectl.prefix, "-n", self.namespace, *run)


@dataclass(frozen=True, slots=True)
class Agents:
    """The drill's own Deployment in a region."""

    name: str
    namespace: str
    memory: str
    image: str
    replicas: int
    node_region: str = ""
    """The region's label on its nodes, where one cluster has several regions."""
    upstream: str = ""
    """Claude's base URL, if it is not the resource's."""
    key_from: tuple[str, str] | None = None
    """Secret and key of the Anthropic API key."""

    def manifest(self) -> dict[str, Any]:
        labels = {LABEL: self.name}
        env: list[dict[str, Any]] = [{"name": "ANTHROPIC_BASE_URL", "value": self.upstream}] if self.upstream else []
        if self.key_from:
            name, key = self.key_from
            env.append({"name": "ANTHROPIC_API_KEY", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}})
        pod: dict[str, Any] = {
            "terminationGracePeriodSeconds": 30,
            "containers": [
                {
                    "name": AGENT,
                    "image": self.image,
                    "command": ["sleep", "infinity"],
                    "env": env,
                    "securityContext": _RESTRICTED,
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                }
            ],
        }
        if self.node_region:
            pod["nodeSelector"] = {"topology.kubernetes.io/region": self.node_region}
        meta = {
            "labels": {**labels, "agentmemory.io/inject": "true"},
            "annotations": {"agentmemory.io/memory": self.memory},
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": meta, "spec": pod},
            },
        }


_RESTRICTED: dict[str, Any] = {
    **of_container(),
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
