"""`helm upgrade` under agents that go on, from what was released before."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from e2e.cluster.admission import admitting
from e2e.cluster.agents import apply, deployment, pods, ready, rolled_out
from e2e.cluster.install import SYSTEM, VALUES, install
from e2e.cluster.redis import redis_pods
from e2e.cluster.shell import NAME, helm, kubectl, run
from e2e.cluster.writer import writing

REGION = "us-east-1"
OURS = ("operator", "webhook")
IMAGES = ("operator", "sidecar", "stores")


@dataclass(frozen=True, slots=True)
class Release:
    """Charts and images of before."""

    charts: Path
    description: str


@pytest.fixture
async def previous() -> AsyncIterator[Release]:
    """The newest tag's charts and images. Before there is any tag: today's sources as version 0.0.1, with images of
    another tag, so that both Deployments roll all the same."""
    tag = (await run("git", "describe", "--tags", "--abbrev=0", check=False)).out.strip()
    folder = Path(tempfile.mkdtemp(prefix="agentmemory-previous-"))
    tree = folder / "tree"
    try:
        if tag:
            await run("git", "worktree", "add", "--detach", str(tree), tag)
            for name in IMAGES:
                file, *extra = ("operator",) if name == "operator" else ("sidecar",)
                extra = ["--build-arg", "EXTRA=laptop"] if name == "stores" else []
                await run(
                    "docker", "build", "--network=host", "-q", "-t", f"agentmemory-{name}:previous",
                    "-f", str(tree / f"Dockerfile.{file}"), *extra, str(tree), timeout_s=900,
                )  # fmt: skip
        else:
            shutil.copytree("charts", tree / "charts")
            chart = tree / "charts/agentmemory/Chart.yaml"
            chart.write_text(yaml.safe_dump(yaml.safe_load(chart.read_text()) | {"version": "0.0.1"}))
            for name in IMAGES:
                await run("docker", "tag", f"agentmemory-{name}:e2e", f"agentmemory-{name}:previous")
        images = [f"agentmemory-{name}:previous" for name in IMAGES]
        await run("kind", "load", "docker-image", "--name", NAME, *images, timeout_s=600)
        yield Release(tree / "charts", tag or "these sources as 0.0.1")
    finally:
        if tag:
            await run("git", "worktree", "remove", "--force", str(tree), check=False)
        shutil.rmtree(folder)


def memory(namespace: str) -> dict[str, object]:
    """Tiers as in production: what is embedded would take its new image at once."""
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": "memory", "namespace": namespace},
        "spec": {
            "regions": [REGION],
            "ephemeral": {"redis": {"managed": {"shards": 3, "replicas": 1}}},
            "state": {"dynamodb": {"table": f"{namespace}-state"}},
            "archive": {"s3": {"bucketPrefix": namespace}},
            "session": {"identity": {"headers": ["X-Agent-Session"]}},
        },
    }


async def runs(namespace: str, *selectors: str) -> dict[str, tuple[str, int]]:
    """Each pod's uid, and how often its containers were started anew."""
    found = {}
    for selector in selectors:
        for pod in await pods(namespace, selector):
            states = [*pod["status"].get("containerStatuses", ()), *pod["status"].get("initContainerStatuses", ())]
            restarts = sum(row["restartCount"] for row in states)
            found[pod["metadata"]["name"]] = (pod["metadata"]["uid"], restarts)
    return found


@pytest.mark.all
async def test_no_request_fails_and_nothing_but_our_own_deployments_restarts(previous: Release, namespace: str) -> None:
    then = yaml.safe_load(VALUES.read_text())
    then["image"]["tag"] = "previous"
    then["settings"]["images"] |= {name: f"agentmemory-{name}:previous" for name in ("sidecar", "stores")}
    values = previous.charts / "values.json"
    values.write_text(json.dumps(then))
    system = ("-n", SYSTEM)
    await helm("upgrade", "--install", "agentmemory-crds", str(previous.charts / "agentmemory-crds"), *system)
    await helm(
        "upgrade", "--install", "agentmemory", str(previous.charts / "agentmemory"), *system, "-f", str(values),
        "--wait", "--timeout", "180s",
    )  # fmt: skip
    try:
        await apply(memory(namespace))
        await ready(namespace, "memory", timeout_s=300)
        agent = deployment(namespace, region=REGION)
        agent["spec"]["template"]["metadata"]["labels"]["agentmemory.io/inject"] = "true"
        await apply(agent)
        await rolled_out(namespace, "deployment/agent")
        theirs = ("app.kubernetes.io/name=agentmemory-redis", "app=agent")
        before = await runs(namespace, *theirs)
        assert len(before) == 7
        ours = await runs(SYSTEM, *(f"agentmemory.io/component={each}" for each in OURS))

        async with writing(namespace, retries=0) as writer, admitting(namespace) as admissions:
            await writer.more(1)
            await admissions.more()
            await install()
            for each in OURS:
                await rolled_out(SYSTEM, f"deployment/agentmemory-{each}")
            await ready(namespace, "memory", timeout_s=60)
            await writer.more(2)
            await admissions.more()
            # A new leader has looked at everything by now, and would have begun to roll what it finds outdated.
            await asyncio.sleep(20)
        assert writer.refused == []
        assert admissions.refused == []
        after = await runs(SYSTEM, *(f"agentmemory.io/component={each}" for each in OURS))
        assert not {uid for uid, _ in ours.values()} & {uid for uid, _ in after.values()}, previous.description
        assert await runs(namespace, *theirs) == before
        assert len(await redis_pods(namespace)) == 6
        await writer.check()
    finally:
        await install()
        await kubectl("-n", namespace, "delete", "agentmemory", "memory", "--wait=false", check=False)
