"""Commands on this machine and in the cluster."""

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

NAME = os.environ.get("AGENTMEMORY_E2E_CLUSTER", "agentmemory-e2e")
CONTROL_PLANE = f"{NAME}-control-plane"


class Failed(AssertionError):
    """A command ended with another code than 0."""


@dataclass(frozen=True, slots=True)
class Output:
    code: int
    out: str
    err: str


async def run(*command: str, stdin: str = "", check: bool = True, timeout_s: float = 300) -> Output:
    """Raises Failed with what the command said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode() if stdin else None), timeout_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Failed(f"{' '.join(command)}: still running after {timeout_s:.0f} s") from None
    output = Output(process.returncode or 0, out.decode(), err.decode())
    if check and output.code:
        raise Failed(f"{' '.join(command)}: code {output.code}\n{output.out[-3000:]}\n{output.err[-3000:]}")
    return output


async def kubectl(*arguments: str, stdin: str = "", check: bool = True, timeout_s: float = 300) -> Output:
    """The node's own kubectl: of the cluster's version, and always there."""
    return await run(
        "docker", "exec", "-i", CONTROL_PLANE, "kubectl", *arguments, stdin=stdin, check=check, timeout_s=timeout_s
    )


async def helm(*arguments: str, check: bool = True, timeout_s: float = 300) -> Output:
    return await run("helm", "--kube-context", f"kind-{NAME}", *arguments, check=check, timeout_s=timeout_s)


async def kubectl_json(*arguments: str) -> Any:
    return json.loads((await kubectl(*arguments, "-o", "json")).out)


async def node_kill(namespace: str, pod: str, command: str) -> None:
    """SIGKILL, from its node, to the process of a pod whose command line holds ``command``: nothing is told first."""
    found = await kubectl_json("-n", namespace, "get", "pod", pod)
    node, uid = found["spec"]["nodeName"], found["metadata"]["uid"].replace("-", "[-_]")
    script = (
        f"for p in /proc/[0-9]*; do if grep -q 'pod{uid}' $p/cgroup 2>/dev/null && "
        f"tr '\\0' ' ' <$p/cmdline | grep -q '{command}'; then kill -9 ${{p#/proc/}} && echo killed; fi; done"
    )
    output = await run("docker", "exec", node, "bash", "-c", script)
    if "killed" not in output.out:
        raise Failed(f"no process of {namespace}/{pod} has a command line with {command!r}")
