"""A real API server that asks a webhook on this machine: what it makes of the patches, and what it does without us.

The Service that the configuration names leads to this machine, so that names, certificates and bundles are the real ones.
"""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes

from agentmemory_operator.certificates import CHECK_EVERY, Held, keep, loaded
from agentmemory_operator.inject.patch import Reason, inject
from agentmemory_operator.inject.resources import is_guaranteed
from agentmemory_operator.kube import MUTATING_WEBHOOKS, NAMESPACE, NODE, POD, SECRET, Cluster, KubeError
from agentmemory_operator.settings import Settings
from tests.operator.cluster import Kubectl
from tests.operator.conftest import CONTEXT
from tests.operator.inject import goldens
from tests.operator.inject.test_patch import INJECTED, env_of
from tests.operator.webhook.asking import until, write_pair

pytestmark = pytest.mark.cluster
DAY = timedelta(days=1)


@dataclass
class Installed:
    """The webhook, known to the API server for the pods of one namespace."""

    kube: Cluster
    namespace: str
    system: str
    settings: Settings
    folder: Path
    process: subprocess.Popen[bytes]
    probes: int
    """The port of the webhook's probes."""

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(CONTEXT, self.namespace)

    async def create(self, pod: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Create a pod, as a dry run; the pod as the API server has it, and the warnings."""
        await self.account(pod)
        arguments = ("create", "--dry-run=server", "--output=json", "--filename=-")
        done = await asyncio.to_thread(self.kubectl.run, *arguments, manifest=without_namespace(pod))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    async def refusal(self, pod: dict[str, Any]) -> str:
        arguments = ("create", "--dry-run=server", "--filename=-")
        return await asyncio.to_thread(self.kubectl.refusal, *arguments, manifest=without_namespace(pod))

    async def account(self, pod: dict[str, Any]) -> None:
        if name := pod["spec"].get("serviceAccountName"):
            await asyncio.to_thread(self.kubectl.run, "create", "serviceaccount", name)

    async def leader(self, now: datetime) -> Held:
        """One look of the operator's leader, and the Secret as the kubelet would bring it."""
        await keep(self.kube, self.settings, now)
        held = loaded(await self.kube.get(SECRET, self.system, self.settings.webhook.secret))
        assert held is not None
        write_pair(self.folder, held)
        return held

    async def serves(self, held: Held) -> None:
        """Wait until the webhook serves this leaf."""
        fingerprint = held.leaf.certificate.fingerprint(hashes.SHA256()).hex()

        async def does() -> bool:
            return fingerprint in await asyncio.to_thread(readiness, self.probes)

        await until(does)


@pytest.fixture
async def installed(kube: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Installed]:
    system, name = f"{namespace}-system", f"agentmemory-test-{uuid4().hex[:8]}"
    settings = Settings.model_validate({"operatorNamespace": system, "webhook": {"configuration": name}})
    (tmp_path / "settings.yaml").write_text("{}")
    async with AsyncExitStack() as left:
        left.push_async_callback(kube.delete, NAMESPACE, "", system)
        await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": system}})
        left.push_async_callback(kube.delete, MUTATING_WEBHOOKS, "", name)
        await kube.create(configuration(name, namespace, system))
        host = await this_machine(kube)
        process = left.enter_context(serving(tmp_path, host))
        port, probes = await asyncio.to_thread(ports, tmp_path)
        found = Installed(kube, namespace, system, settings, tmp_path, process, probes)
        await found.leader(datetime.now(UTC) - 250 * DAY)
        await found.serves(await found.leader(datetime.now(UTC) - 21 * DAY))
        await asyncio.to_thread(lead_here, system, host, port)
        await asked(found)
        yield found


@contextmanager
def serving(folder: Path, host: str) -> Iterator[subprocess.Popen[bytes]]:
    """The webhook as a process."""
    command = [
        sys.executable, "-m", "agentmemory_sidecar.cli", "webhook", "--settings", str(folder / "settings.yaml"),
        "--cert-dir", str(folder), "--listen", f"{host}:0", "--probes", "127.0.0.1:0", "--linger", "0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()


def ports(folder: Path) -> tuple[int, int]:
    """Where the process serves, and where its probes are, as it says itself."""
    while not (match := re.search(r"serving on port (\d+), probes on port (\d+)", (folder / "log").read_text())):
        time.sleep(0.05)
    return int(match[1]), int(match[2])


def readiness(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return str(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read())


async def asked(installed: Installed) -> None:
    """Wait until the API server knows the configuration and the Service's endpoint."""

    async def does() -> bool:
        arguments = ("create", "--dry-run=server", "--output=json", "--filename=-")
        done = await asyncio.to_thread(
            installed.kubectl.run, *arguments, manifest=without_namespace(goldens.pod("plain"))
        )
        return done.returncode == 0 and "initContainers" in json.loads(done.stdout)["spec"]

    await until(does)


async def this_machine(kube: Cluster) -> str:
    """This machine's address as the nodes see it."""
    node = (await kube.list(NODE))[0]
    address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 1))
        found: str = probe.getsockname()[0]
        return found


def lead_here(system: str, host: str, port: int) -> None:
    """A Service without pods, whose endpoint is this process."""
    meta = {"name": "agentmemory-webhook", "namespace": system}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"ports": [{"port": 443, "name": "https"}]},
    }
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta | {"labels": {"kubernetes.io/service-name": "agentmemory-webhook"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port}],
        "endpoints": [{"addresses": [host]}],
    }
    Kubectl(CONTEXT, system).do("create", "--filename=-", manifest=service)
    Kubectl(CONTEXT, system).do("create", "--filename=-", manifest=slice_)


def configuration(name: str, namespace: str, system: str) -> dict[str, Any]:
    """As the chart's, but for the pods of one namespace."""

    def entry(which: str, label: dict[str, Any]) -> dict[str, Any]:
        service = {"namespace": system, "name": "agentmemory-webhook", "path": "/inject", "port": 443}
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        return {
            "name": f"{which}.agentmemory.io",
            "clientConfig": {"service": service},
            "rules": [rule | {"scope": "Namespaced"}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchExpressions": [label]},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
        }

    key = "agentmemory.io/inject"
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [entry("pods", {"key": key, "operator": "In", "values": ["true"]})],
    }


def without_namespace(pod: dict[str, Any]) -> dict[str, Any]:
    return pod | {"metadata": {key: value for key, value in pod["metadata"].items() if key != "namespace"}}


async def test_the_api_server_takes_every_golden_pod_and_has_nothing_to_add(installed: Installed) -> None:
    others = [each["metadata"]["name"] for each in await installed.kube.list(MUTATING_WEBHOOKS)]
    others = [name for name in others if "agentmemory" in name and name != installed.settings.webhook.configuration]
    assert not others, f"another installation injects these pods first, with settings of its own: {others}"
    for name in INJECTED:
        settings = goldens.settings(name)
        (installed.folder / "settings.yaml").write_text(settings_text(name))
        pod, said = await installed.create(goldens.pod(name))
        # With all that the API server filled in there is nothing left to do, once the webhook has the settings.
        while inject(pod, installed.namespace, settings).reason is not Reason.COMPLETE or not as_set(pod, settings):
            pod, said = await installed.create(goldens.pod(name))
        assert pod["spec"]["initContainers"][0]["name"] == "agentmemory", name
        assert pod["spec"]["initContainers"][0]["restartPolicy"] == "Always", name
        for warning in goldens.decide(name).warnings:
            assert warning in said, name
        if name == "guaranteed":
            assert is_guaranteed(pod["spec"])
            assert pod["status"]["qosClass"] == "Guaranteed"


def as_set(pod: dict[str, Any], settings: Settings) -> bool:
    """Whether the sidecar has the AWS identity of these settings, and no other."""
    names = {name for name in env_of(pod, "agentmemory") if name.startswith("AWS_")}
    mark = {"Irsa": "AWS_ROLE_ARN", "PodIdentity": "AWS_CONTAINER_CREDENTIALS_FULL_URI"}.get(settings.aws.identity)
    return mark in names if mark else not names


async def test_a_restricted_namespace_takes_the_sidecar(installed: Installed) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    await asyncio.to_thread(installed.kubectl.do, "label", "namespace", installed.namespace, label)
    pod, said = await installed.create(goldens.pod("restricted"))
    assert env_of(pod, "agent")["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8377"
    assert "violate" not in said
    # The standard is in force: without its own settings the agent's container is refused.
    refusal = await installed.refusal(goldens.pod("plain"))
    assert 'violates PodSecurity "restricted' in refusal
    assert '"agent"' in refusal
    assert '"agentmemory"' not in refusal


async def test_a_refusal_reaches_who_creates_the_pod(installed: Installed) -> None:
    refusal = await installed.refusal(goldens.pod("refused-port"))
    assert "pods.agentmemory.io" in refusal
    assert "spec.containers[0].ports: 8377 is the sidecar's" in refusal


async def test_without_the_webhook_only_labelled_pods_are_refused(installed: Installed) -> None:
    installed.process.terminate()
    await asyncio.to_thread(installed.process.wait)
    assert "pods.agentmemory.io" in await installed.refusal(goldens.pod("plain"))
    unlabelled = goldens.pod("plain")
    unlabelled["metadata"].pop("labels")
    pod, _ = await installed.create(unlabelled)
    assert "initContainers" not in pod["spec"]
    policy = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
    await installed.kube.patch(MUTATING_WEBHOOKS, "", installed.settings.webhook.configuration, policy)

    async def ignored() -> bool:
        arguments = ("create", "--dry-run=server", "--filename=-")
        manifest = without_namespace(goldens.pod("plain"))
        return (await asyncio.to_thread(installed.kubectl.run, *arguments, manifest=manifest)).returncode == 0

    await until(ignored)


async def test_certificates_rotate_under_load_with_no_failed_admission(installed: Installed) -> None:
    """An authority is renewed and takes over, with a new leaf before and after, while pods are created all the time."""
    done, created, failures = asyncio.Event(), list[str](), list[str]()

    async def create() -> None:
        while not done.is_set():
            name = f"pod-{uuid4().hex[:8]}"
            # No node takes it: what counts is that it was admitted.
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": installed.namespace,
                    "labels": {"agentmemory.io/inject": "true"},
                },
                "spec": {
                    "nodeSelector": {"example/none": "true"},
                    "containers": [{"name": "agent", "image": "example/agent:1"}],
                },
            }
            try:
                made = await installed.kube.create(pod)
            except KubeError as error:
                failures.append(str(error))
            else:
                assert made["spec"]["initContainers"][0]["name"] == "agentmemory"
                created.append(name)
                await installed.kube.delete(POD, installed.namespace, name, grace_s=0)

    async def more(count: int) -> None:
        wanted = len(created) + count

        async def are() -> bool:
            return len(created) >= wanted or bool(failures)

        await until(are)

    now = datetime.now(UTC)
    served = set[int]()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(create())
        await more(3)
        for moment in (now - DAY, now - DAY + CHECK_EVERY, now, now + CHECK_EVERY):
            held = await installed.leader(moment)
            await installed.serves(held)
            served.add(held.leaf.certificate.serial_number)
            await more(3)
        done.set()
    assert failures == []
    assert len(served) == 3
    assert held.retired


def settings_text(name: str) -> str:
    file = goldens.FOLDER / f"{name}.settings.yaml"
    return file.read_text() if file.exists() else "{}"
