"""Pods that are asked for all the time, as dry runs: each is an admission by whatever webhook is there."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from e2e.cluster.agents import container
from e2e.cluster.install import SYSTEM
from e2e.cluster.shell import kubectl, kubectl_json
from e2e.cluster.wait import until

BATCH = 20
_FIRST = r'jsonpath={.spec.initContainers[0].name}{"\n"}'
_READY = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/readyz').read().decode())"


@dataclass(slots=True)
class Admissions:
    """What became of the pods that were asked for."""

    admitted: int = 0
    refused: list[str] = field(default_factory=list)
    """What was said where a pod was refused, or came back without the sidecar."""

    async def more(self, timeout_s: float = 60) -> None:
        """Wait for two batches more."""
        wanted = self.admitted + 2 * BATCH

        async def look() -> bool:
            assert not self.refused, self.refused
            return self.admitted >= wanted

        await until("more admissions", look, timeout_s=timeout_s)


def labelled(namespace: str, name: str) -> dict[str, object]:
    """A pod that asks for the sidecar."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"agentmemory.io/inject": "true"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container("sleep", "infinity")]},
    }


@asynccontextmanager
async def admitting(namespace: str) -> AsyncIterator[Admissions]:
    """Admissions that go on, one after the other, for as long as the block."""
    admissions, stop = Admissions(), asyncio.Event()
    batch = "\n---\n".join(json.dumps(labelled(namespace, f"dry-{number}")) for number in range(BATCH))

    async def go_on() -> None:
        while not stop.is_set():
            done = await kubectl("create", "--dry-run=server", "-o", _FIRST, "-f", "-", stdin=batch, check=False)
            injected = done.out.split().count("agentmemory")
            admissions.admitted += injected
            if done.code or injected != BATCH:
                admissions.refused.append(f"{injected} of {BATCH}: {done.err[-600:]}")

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on())
        try:
            yield admissions
        finally:
            stop.set()


async def certificates() -> dict[str, str]:
    """The fingerprint of the certificate that each of the webhook's pods serves, by pod."""
    found = await kubectl_json("-n", SYSTEM, "get", "pods", "-l", "agentmemory.io/component=webhook")
    served = {}
    for pod in found["items"]:
        name = pod["metadata"]["name"]
        said = await kubectl("-n", SYSTEM, "exec", name, "--", "python", "-c", _READY)
        served[name] = str(json.loads(said.out)["certificate"])
    return served


async def served_anew(before: dict[str, str], timeout_s: float = 240) -> dict[str, str]:
    """Wait until each pod serves another certificate than before, and all of them the same."""

    async def look() -> dict[str, str]:
        now = await certificates()
        assert now.keys() == before.keys()
        assert len(set(now.values())) == 1
        assert not set(now.values()) & set(before.values())
        return now

    return await until("the webhook's new certificate", look, timeout_s=timeout_s, every_s=3)
