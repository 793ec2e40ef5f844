"""Two hundred resources on one operator, a process of its own: its memory stays flat, and idle it writes only its Lease,
and a heartbeat in each region of those that have several.

    AGENTMEMORY_KUBE_CONTEXT=kind-scale .venv/bin/python -m pytest -s tests/operator/test_scale.py

The API server is that of AGENTMEMORY_KUBE_CONTEXT and nobody else's meanwhile; AGENTMEMORY_SCALE is another number of
resources. With ``-s`` it prints what it has measured.
"""

import asyncio
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import psutil
import pytest
import yaml

from agentmemory_operator.heartbeats import EVERY_S
from agentmemory_operator.kube import (
    AGENTMEMORY,
    EVENT,
    LEASE,
    NAMESPACE,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Cluster,
    Object,
)
from agentmemory_sidecar.layout.dynamodb import PARTITION_KEY, PING
from tests.aws.front import Front
from tests.aws.tests.clients import Client
from tests.operator.cluster import Kubectl

PASSWORD = "password-of-the-test"

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("scale")]

COUNT = int(os.environ.get("AGENTMEMORY_SCALE", "200"))
NAMESPACES = 10
BATCH = 5
"""How many requests of the test's own are under way at once."""
ROUNDS = 3
GROWTH = 15 << 20
"""Bytes that the process may grow by in all rounds together: a leak of 1 KiB an AWS call would take 10 MiB, of an object
and its manifest each look far more."""
IDLE_S = 60
RESYNC = "60s"
READ = ("GET", "LIST", "WATCH")
OURS = ("agentmemories", "secrets", "statefulsets", "services", "leases")
"""What an operator may write, and nobody else does in a namespace of these."""


@dataclass(frozen=True, slots=True)
class Operator:
    """The process, and what it says of itself."""

    process: psutil.Popen
    probes: str

    @property
    def resident(self) -> int:
        """Bytes."""
        assert self.process.poll() is None, "the operator has ended: see its log"
        return int(self.process.memory_info().rss)

    @property
    def threads(self) -> int:
        return int(self.process.num_threads())

    @property
    def cpu_s(self) -> float:
        return sum(self.process.cpu_times()[:2])

    async def metric(self, name: str) -> Counter[str]:
        """The samples of a metric, by their labels as text."""
        text = await asyncio.to_thread(lambda: urlopen(f"http://{self.probes}/metrics").read().decode())
        return samples(text, name)

    async def cycles(self) -> int:
        return int((await self.metric("agentmemory_operator_cycles_total"))['outcome="done"'])


def samples(text: str, name: str) -> Counter[str]:
    found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return Counter({labels: int(float(value)) for labels, value in found})


def resource(namespace: str, number: int, redis: str) -> Object:
    """Every tenth has two regions; each has a Secret of its own."""
    return {
        "apiVersion": "agentmemory.io/v1alpha1",
        "kind": "AgentMemory",
        "metadata": {"name": f"memory-{number}", "namespace": namespace},
        "spec": {
            "regions": ["us-east-1", "us-west-2"] if number % 10 == 0 else ["us-east-1"],
            "ephemeral": {"redis": {"external": {"urls": [redis], "passwordFrom": _from(number)}}},
            "state": {"dynamodb": {"table": f"{namespace}-{number}"}},
            "archive": {"s3": {"bucketPrefix": f"{namespace}-{number}"}},
            "session": {"identity": {"headers": ["X-Agent-Session"]}},
        },
    }


def _from(number: int) -> dict[str, Any]:
    return {"secretKeyRef": {"name": f"redis-{number}", "key": "password"}}


def secret(namespace: str, number: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"redis-{number}", "namespace": namespace},
        "stringData": {"password": PASSWORD},
    }


async def in_batches(calls: Iterable[Callable[[], Awaitable[Any]]]) -> None:
    waiting = iter(calls)
    while batch := tuple(islice(waiting, BATCH)):
        await asyncio.gather(*(call() for call in batch))


async def until(what: str, ready: Callable[[], Awaitable[bool]], every_s: float = 1.0) -> None:
    for _ in range(900):
        if await ready():
            return
        await asyncio.sleep(every_s)
    raise AssertionError(f"never: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """A Redis on loopback that wants a password."""
    port = free_port()
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": PASSWORD,
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    process = subprocess.Popen(["redis-server", *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
async def namespaces(kube: Cluster, definition: str) -> AsyncIterator[list[str]]:
    run = uuid4().hex[:6]
    names = [f"scale-{run}-{number}" for number in range(NAMESPACES)]
    for name in names:
        await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield names
    for name in names:
        for item in await kube.list(AGENTMEMORY, name):
            await kube.patch(AGENTMEMORY, name, item["metadata"]["name"], {"metadata": {"finalizers": None}})
        await kube.delete(NAMESPACE, "", name)


@pytest.fixture
def operator(definition: str, namespaces: list[str], aws: Front, tmp_path: Path) -> Iterator[Operator]:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(Kubectl(definition).do("config", "view", "--minify", "--flatten", "--raw"))
    settings = {
        "regions": ["us-east-1"],
        "namespaces": namespaces,
        "operatorNamespace": namespaces[0],
        "resync": RESYNC,
        "webhook": {"certificates": "Provided"},
        "aws": {
            "dynamodbEndpoint": aws.url,
            "s3Endpoint": aws.url,
            "replicationRoleArn": "arn:aws:iam::123456789012:role/replication",
        },
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    command = [str(Path(sys.executable).parent / "agentmemory"), "operator", "--log-level", "WARNING"]
    probes = f"127.0.0.1:{free_port()}"
    command += ["--settings", str(tmp_path / "settings.yaml"), "--probes", probes]
    with (tmp_path / "operator.log").open("wb") as log:
        process = psutil.Popen(command, env=os.environ | {"KUBECONFIG": str(kubeconfig)}, stderr=log)
    yield Operator(process, probes)
    process.terminate()
    process.wait()


async def ready(kube: Cluster, namespaces: list[str]) -> int:
    rows = [item for namespace in namespaces for item in await kube.list(AGENTMEMORY, namespace)]
    conditions = [row for item in rows for row in (item.get("status") or {}).get("conditions", ())]
    return sum(row["type"] == "Ready" and row["status"] == "True" for row in conditions)


async def revisions(kube: Cluster, namespaces: list[str]) -> dict[tuple[str, str, str], str]:
    """Of everything in the namespaces but the Lease."""
    found = {}
    for kind in (AGENTMEMORY, EVENT, SECRET, SERVICE, STATEFUL_SET):
        for namespace in namespaces:
            for item in await kube.list(kind, namespace):
                meta = item["metadata"]
                found[kind.kind, namespace, meta["name"]] = meta["resourceVersion"]
    return found


def writes(kubectl: Kubectl) -> Counter[str]:
    """How many requests to write the API server has had so far, for each kind of ours."""
    asked = samples(kubectl.do("get", "--raw", "/metrics"), "apiserver_request_total")
    found: Counter[str] = Counter()
    for labels, count in asked.items():
        fields: Mapping[str, str] = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if fields["verb"] not in READ and fields["resource"] in OURS:
            found[fields["resource"]] += count
    return found


async def round_of_all(kube: Cluster, operator: Operator, namespaces: list[str], number: int) -> None:
    """Touch every resource, and wait until each was looked at since."""
    before = await operator.cycles()
    change = {"metadata": {"annotations": {"example.com/round": str(number)}}}
    await in_batches(
        partial(kube.patch, AGENTMEMORY, namespaces[each % NAMESPACES], f"memory-{each}", change)
        for each in range(COUNT)
    )

    async def looked() -> bool:
        return await operator.cycles() >= before + COUNT

    await until("a look at every resource", looked)


async def test_many_resources_take_flat_memory_and_an_idle_operator_writes_only_its_lease(
    kube: Cluster, definition: str, namespaces: list[str], operator: Operator, aws: Front, redis: str
) -> None:
    aws.tables.creating_s = 0.1
    began = time.monotonic()
    places = [(namespaces[number % NAMESPACES], number) for number in range(COUNT)]
    await in_batches(partial(kube.create, secret(*place)) for place in places)
    await in_batches(partial(kube.create, resource(*place, redis)) for place in places)

    async def all_ready() -> bool:
        count = await ready(kube, namespaces)
        print(
            f"{time.monotonic() - began:5.0f} s: {count} ready, {operator.resident >> 20} MiB, {operator.cpu_s:.0f} s CPU"
        )
        return count == COUNT

    await until("all resources ready", all_ready, every_s=5)
    took_s = time.monotonic() - began

    await round_of_all(kube, operator, namespaces, 0)
    first, threads, cpu_s, cycles = operator.resident, operator.threads, operator.cpu_s, await operator.cycles()
    sizes = []
    for number in range(1, ROUNDS + 1):
        await round_of_all(kube, operator, namespaces, number)
        sizes.append(operator.resident)
    done = await operator.cycles() - cycles
    cost_ms = 1000 * (operator.cpu_s - cpu_s) / done
    print(
        f"{COUNT} resources ready in {took_s:.0f} s; {first >> 20} MiB after that; then {done} looks: "
        f"{[size >> 20 for size in sizes]} MiB, {threads} then {operator.threads} threads, {cost_ms:.0f} ms CPU a look"
    )
    assert max(sizes) - first < GROWTH
    assert operator.threads <= threads
    assert (await operator.metric("agentmemory_operator_resources"))[""] == COUNT

    kubectl, looks = Kubectl(definition), await operator.cycles()
    objects, asked, changed = await revisions(kube, namespaces), writes(kubectl), len(aws.changes)
    aws.written.clear()
    idle_since = time.monotonic()

    async def looked_again() -> bool:
        return await operator.cycles() >= looks + COUNT

    await asyncio.sleep(IDLE_S)
    await until("a look at every resource while nothing happens", looked_again)
    assert await revisions(kube, namespaces) == objects
    assert aws.changes[changed:] == []
    beats = math.ceil((time.monotonic() - idle_since) / EVERY_S) + 1
    assert set(aws.written) == {f"{namespace}-{number}" for namespace, number in places if number % 10 == 0}
    assert max(aws.written.values()) <= 2 * beats
    for table in aws.written:
        found = (await Client(aws, "dynamodb", "us-east-1").scan(TableName=table))["Items"]
        assert {item[PARTITION_KEY]["S"] for item in found} == {PING}
    more = writes(kubectl) - asked
    print(f"idle: {await operator.cycles() - looks} looks, requests to write: {dict(more)}")
    assert set(more) == {"leases"}
    assert await kube.get(LEASE, namespaces[0], "agentmemory-operator")
