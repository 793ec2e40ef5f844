"""The webhook: what happens to pods while it is away, when it is back, and when its certificates change."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentmemory_operator.certificates import SETTLE, Held, Pair, Store, decide, dumped, loaded
from e2e.cluster.admission import admitting, certificates, labelled, served_anew
from e2e.cluster.agents import apply, container, deployment, pods, rolled_out
from e2e.cluster.install import SYSTEM, upgrade
from e2e.cluster.shell import kubectl, kubectl_json
from e2e.cluster.wait import until

INJECT = {"agentmemory.io/inject": "true"}
SECRET = "agentmemory-webhook-tls"
WHOLE_S = 60


def pod(namespace: str, name: str) -> dict[str, object]:
    """One that asks for nothing."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container("sleep", "infinity")]},
    }


@asynccontextmanager
async def away() -> AsyncIterator[None]:
    """No webhook answers in the block; after it, two do."""
    await kubectl("-n", SYSTEM, "scale", "deployment", "agentmemory-webhook", "--replicas=0")
    try:
        await kubectl(
            "-n", SYSTEM, "wait", "--for=delete", "pod", "-l", "agentmemory.io/component=webhook", "--timeout=90s"
        )
        yield
    finally:
        await kubectl("-n", SYSTEM, "scale", "deployment", "agentmemory-webhook", "--replicas=2")
        await rolled_out(SYSTEM, "deployment/agentmemory-webhook")


async def test_while_it_is_away_only_labelled_pods_wait_and_they_start_by_themselves_later(namespace: str) -> None:
    async with away():
        await apply(pod(namespace, "plain"))
        refused = await kubectl("create", "-f", "-", stdin=json.dumps(labelled(namespace, "asked")), check=False)
        assert refused.code != 0
        assert 'failed calling webhook "pod.inject.agentmemory.io"' in refused.err
        agent = deployment(namespace)
        agent["spec"]["template"]["metadata"]["labels"] |= INJECT
        await apply(agent)
        await kubectl("-n", namespace, "wait", "--for=condition=ReplicaFailure", "deployment/agent", "--timeout=60s")
        await kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/plain", "--timeout=60s")
    available = ("wait", "--for=condition=Available", "deployment/agent", f"--timeout={WHOLE_S}s")
    await kubectl("-n", namespace, *available)
    (found,) = await pods(namespace, "app=agent")
    assert [row["name"] for row in found["spec"]["initContainers"]] == ["agentmemory"]


@pytest.mark.all
async def test_with_ignore_labelled_pods_start_while_it_is_away_and_are_warned_of_and_reported(namespace: str) -> None:
    await upgrade("--set", "webhook.failurePolicy=Ignore")
    try:
        async with away():
            manifest = json.dumps(labelled(namespace, "asked"))

            async def warned() -> str:
                """The API server takes a moment to see the policy's new action."""
                said = await kubectl("create", "-f", "-", stdin=manifest, check=False)
                assert not said.code, said.err
                return said.err

            warning = await until("the pod to be let in", warned, timeout_s=30)
            assert "Warning: Validation failed for ValidatingAdmissionPolicy 'agentmemory-sidecar'" in warning
            assert "asks for the agentmemory sidecar and has none" in warning
            await kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/asked", "--timeout=60s")
            found = await kubectl_json("-n", namespace, "get", "pod", "asked")
            assert "initContainers" not in found["spec"]

            async def reported() -> str:
                events = await kubectl("-n", namespace, "get", "events", "--field-selector=reason=SidecarMissing")
                return events.out

            assert "asked" in await until("the event of a pod without its sidecar", reported, timeout_s=90)
    finally:
        await upgrade("--set", "webhook.failurePolicy=Fail")


@pytest.mark.all
async def test_its_certificates_change_under_load_with_no_failed_admission(namespace: str) -> None:
    """First all at once: the Secret is deleted. Then the way of every year: a new authority, which is
    published, and takes over with a leaf of its own once it has been known for long enough."""
    async with admitting(namespace) as admissions:
        await admissions.more()
        served = await certificates()
        await kubectl("-n", SYSTEM, "delete", "secret", SECRET)
        served = await served_anew(served)
        await admissions.more()

        held = await held_now()
        await write(replace(held, next=authority_of(datetime.now(UTC) - SETTLE - timedelta(minutes=1))))
        await served_anew(served)
        await admissions.more()
    assert admissions.refused == []
    after = await held_now()
    assert after.next is None
    assert held.authority.certificate in after.retired


def authority_of(moment: datetime) -> Pair:
    """One that the leader would have made at that moment."""
    (store, *_) = decide(None, None, ("none",), moment)
    assert isinstance(store, Store)
    return store.held.authority


async def held_now() -> Held:
    held = loaded(await kubectl_json("-n", SYSTEM, "get", "secret", SECRET))
    assert held is not None
    return held


async def write(held: Held) -> None:
    await kubectl("-n", SYSTEM, "patch", "secret", SECRET, "--type=merge", "-p", json.dumps({"data": dumped(held)}))
