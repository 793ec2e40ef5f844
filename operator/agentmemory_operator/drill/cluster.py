"""What a drill makes on a cluster, and how it talks to it: ``kubectl``, with the rights of whoever runs the drill."""

import asyncio
import contextlib
import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentmemory_operator.drill.course import LookFailed
from agentmemory_operator.drill.ledger import View
from agentmemory_operator.drill.line import SCRIPT, SKEW, Line, Lost
from agentmemory_operator.drill.view import SHOW, view
from agentmemory_operator.names import INJECT
from agentmemory_operator.plan.security import of_container

LABEL = "agentmemory.io/drill"
AGENT, SIDECAR = "agent", "agentmemory"
USER = 65532
"""The agents' user: the sidecar's, unless the installation says otherwise."""


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


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod (raw) serves, and is to go on doing so."""
    rows = pod["status"].get("conditions") or ()
    return not pod["metadata"].get("deletionTimestamp") and any(
        row["type"] == "Ready" and row["status"] == "True" for row in rows
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A region's agents: pods of one Deployment, behind one kubectl."""

    region: str
    kubectl: Kubectl
    namespace: str
    name: str
    """The Deployment's, and the value of its pods' label ``LABEL``."""
    node: str = ""
    """The node whose pods are spoken through first."""

    async def pods(self) -> list[str]:
        """Those that are ready: of the node first, the newest last. Raises KubectlFailed."""
        found = await self.kubectl.json("-n", self.namespace, "get", "pods", "-l", f"{LABEL}={self.name}", timeout_s=10)
        ready = [pod for pod in found["items"] if is_ready(pod)]
        ready.sort(key=lambda pod: (pod["spec"].get("nodeName") != self.node, pod["metadata"]["creationTimestamp"]))
        return [pod["metadata"]["name"] for pod in ready]

    def line(self) -> Line:
        """To whichever pod is ready then."""
        return Line(self._command)

    def script(self, pod: str, script: str, *arguments: str) -> Line:
        """To a script of its own in a pod's agent."""

        async def command() -> Sequence[str]:
            return self._run(pod, script, *arguments)

        return Line(command)

    async def clock_s(self, probe_port: int) -> float:
        """How far the sidecar's clock is before the agent's, in whole seconds or so. Raises KubectlFailed."""
        for pod in (await self.pods())[:1]:
            command = ("-n", self.namespace, "exec", pod, "-c", AGENT, "--", "python", "-c", _CLOCK, str(probe_port))
            return float(await self.kubectl.run(*command, timeout_s=15))
        raise KubectlFailed("no pod is ready")

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
        return self._run(pods[0], SCRIPT)

    def _run(self, pod: str, *script: str) -> Sequence[str]:
        run = ("exec", "-i", pod, "-c", AGENT, "--", "python", "-u", "-c", *script)
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
    """The region's label on its nodes, where they have one."""
    upstream: str = ""
    """Claude's base URL, if it is not the resource's."""
    key_from: tuple[str, str] | None = None
    """Secret and key of the Anthropic API key."""
    one_process_space: bool = False
    """Whether a process of the agent's may see, and stop, the sidecar's."""

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
        if self.one_process_space:
            pod["shareProcessNamespace"] = True
        meta = {"labels": {**labels, INJECT: "true"}, "annotations": {"agentmemory.io/memory": self.memory}}
        return self._deployment({"metadata": meta, "spec": pod})

    def skewed(self, made: Mapping[str, Any], by_s: float) -> dict[str, Any]:
        """The same with a sidecar whose clock is off. ``made`` is such a pod as the webhook gives its sidecar: it gets no
        other one."""
        spec = copy.deepcopy(made["spec"])
        for container in spec["initContainers"]:
            if container["name"] == SIDECAR:
                container["command"] = ["python", "-c", SKEW, str(by_s), *container["command"][1:]]
        meta = made["metadata"]
        labels = {**meta["labels"], LABEL: self.name, INJECT: "false"}
        return self._deployment({"metadata": {"labels": labels, "annotations": meta["annotations"]}, "spec": spec})

    def _deployment(self, template: Mapping[str, Any]) -> dict[str, Any]:
        labels = {LABEL: self.name}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "spec": {"replicas": self.replicas, "selector": {"matchLabels": labels}, "template": template},
        }


_CLOCK = """
import email.utils, sys, time, urllib.request
answer = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/livez", timeout=5)
print(email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time())
"""

_RESTRICTED: dict[str, Any] = {
    **of_container(),
    "runAsNonRoot": True,
    "runAsUser": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
