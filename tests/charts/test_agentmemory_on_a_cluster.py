"""What a real API server makes of the charts: every object, and the webhook's configuration without a webhook."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from agentmemory_operator.names import INJECT
from tests.charts.helm import FOREIGN, MATRIX, NAMESPACE, needs_helm, rendered
from tests.operator.cluster import Kubectl

pytestmark = [pytest.mark.cluster, needs_helm]
ADMISSION = ("MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
KNOWN_S = 60
"""How long an API server may take to know a policy, at most."""


@pytest.fixture(scope="session")
def homes(definition: str) -> str:
    """The context of a cluster that has the namespaces the values name."""
    kubectl = Kubectl(definition)
    for name in (NAMESPACE, "agents"):
        kubectl.run("create", "namespace", name)
    return definition


@pytest.mark.parametrize("options", MATRIX.values(), ids=MATRIX)
def test_the_api_server_takes_every_object(homes: str, options: tuple[str, ...]) -> None:
    ours = [manifest for manifest in rendered(*options) if manifest["apiVersion"] not in FOREIGN]
    listed = {"apiVersion": "v1", "kind": "List", "items": ours}
    said = Kubectl(homes).do("apply", "--validate=strict", "--dry-run=server", "--filename=-", manifest=listed)
    assert len(said.splitlines()) == len(ours)


Admission = Callable[..., None]


@pytest.fixture
def admission(kubectl: Kubectl) -> Iterator[Admission]:
    """Installs the chart's admission objects, for the test's namespace alone and with no webhook behind them."""
    name = f"test-{uuid4().hex[:8]}"
    made: list[dict[str, Any]] = []

    def install(*options: str, kinds: Sequence[str] = ADMISSION) -> None:
        narrowed = (f"--set=fullnameOverride={name}", f"--set=settings.namespaces={{{kubectl.namespace}}}")
        made.extend(m for m in rendered(*narrowed, *options) if m["kind"] in kinds)
        kubectl.do("apply", "--filename=-", manifest={"apiVersion": "v1", "kind": "List", "items": made})

    yield install
    kubectl.do("delete", "--filename=-", manifest={"apiVersion": "v1", "kind": "List", "items": made})


def pod(label: str | None = "true", *, sidecar: bool = False, **spec: Any) -> dict[str, Any]:
    labels = {} if label is None else {INJECT: label}
    native = {"name": "agentmemory", "image": "sidecar", "restartPolicy": "Always"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "agent", "labels": labels},
        "spec": {"containers": [{"name": "agent", "image": "agent"}], **spec}
        | ({"initContainers": [native]} if sidecar else {}),
    }


TRY = ("create", "--dry-run=server", "--filename=-")


def until(kubectl: Kubectl, manifest: dict[str, Any], text: str) -> tuple[int, str]:
    """Try to create it until the answer holds ``text``: a policy is in force some seconds after it is made."""
    end = time.monotonic() + KNOWN_S
    while True:
        done = kubectl.run(*TRY, manifest=manifest)
        if text in done.stderr or time.monotonic() > end:
            return done.returncode, done.stderr
        time.sleep(1)


def test_with_fail_labelled_pods_wait_for_the_webhook_and_no_others_do(kubectl: Kubectl, admission: Admission) -> None:
    admission()
    code, said = until(kubectl, pod(), "pod.inject.agentmemory.io")
    assert code != 0
    assert 'failed calling webhook "pod.inject.agentmemory.io"' in said
    for label in (None, "false"):
        kubectl.do(*TRY, manifest=pod(label))


def test_the_policy_refuses_what_the_webhook_did_not_do(kubectl: Kubectl, admission: Admission) -> None:
    admission(kinds=ADMISSION[1:])
    code, said = until(kubectl, pod(), "asks for the agentmemory sidecar and has none")
    assert code != 0
    assert f"see whether the webhook {NAMESPACE}/" in said
    kubectl.do(*TRY, manifest=pod(sidecar=True))
    kubectl.do(*TRY, manifest=pod(hostNetwork=True))
    kubectl.do(*TRY, manifest=pod(None))


def test_with_ignore_the_policy_only_warns(kubectl: Kubectl, admission: Admission) -> None:
    admission("--set=webhook.failurePolicy=Ignore")
    code, said = until(kubectl, pod(), "asks for the agentmemory sidecar and has none")
    assert code == 0
    assert "Warning: Validation failed for ValidatingAdmissionPolicy" in said


def test_in_a_labelled_namespace_pods_start_and_are_warned_of(kubectl: Kubectl, admission: Admission) -> None:
    kubectl.do("label", "namespace", kubectl.namespace, f"{INJECT}=true")
    admission()
    code, said = until(kubectl, pod(None), "asks for the agentmemory sidecar and has none")
    assert code == 0
    assert "Warning:" in said
    assert kubectl.run(*TRY, manifest=pod("false")).stderr == ""
    assert kubectl.run(*TRY, manifest=pod(None, hostNetwork=True)).stderr == ""
