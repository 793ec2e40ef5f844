"""The command against a real API server, and what it says of bad input without one."""

import asyncio
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agentmemory_operator.cli.inject import inject
from agentmemory_operator.kube import CRON_JOB, DEPLOYMENT, Cluster
from tests.operator.conftest import CONTEXT

POD = {"containers": [{"name": "agent", "image": "example/agent:1"}], "nodeSelector": {"example/none": "true"}}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(inject, arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["support"], "is no workload: write one of"),
        (["job/support"], "pod template of a job cannot be changed"),
        (["deploy/support", "--session", "{uid}"], "annotation agentmemory.io/session: has a field that is not known"),
        (["deploy/support", "--memory", "My Memory"], "annotation agentmemory.io/memory: must be a Kubernetes name"),
        (["deploy/support", "--undo", "--memory", "m"], "leave out --memory"),
        (["deploy/support", "--context", "there-is-none"], "set KUBECONFIG or --context"),
    ],
)
def test_bad_input_is_exit_2_with_one_line(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    (line,) = (line for line in done.output.splitlines() if line.startswith("Error:"))
    assert says in line


def deployment(namespace: str) -> dict[str, Any]:
    labels = {"app": "support"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "support", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": POD},
        },
    }


@pytest.mark.cluster
async def test_a_deployment_is_asked_and_asked_no_more(kube: Cluster, namespace: str) -> None:
    await kube.create(deployment(namespace))
    base = ("deploy/support", "-n", namespace, "--context", CONTEXT)

    async def template() -> dict[str, Any]:
        found = await kube.get(DEPLOYMENT, namespace, "support")
        assert found is not None
        metadata: dict[str, Any] = found["spec"]["template"]["metadata"]
        return metadata

    dry = await in_thread(*base, "--session", "{pod}", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "Nothing was changed" in dry.output
    assert (await template())["labels"] == {"app": "support"}

    done = await in_thread(*base, "--session", "{pod}")
    assert done.exit_code == 0, done.output
    assert "2 pods of deployment/support restart" in done.output
    assert (await template())["labels"] == {"app": "support", "agentmemory.io/inject": "true"}
    assert (await template())["annotations"] == {"agentmemory.io/session": "{pod}"}
    assert "Nothing changes" in (await in_thread(*base)).output

    undone = await in_thread(*base, "--undo")
    assert undone.exit_code == 0, undone.output
    assert (await template())["labels"] == {"app": "support"}
    assert not (await template()).get("annotations")


@pytest.mark.cluster
async def test_a_cron_job_is_changed_in_its_jobs_template(kube: Cluster, namespace: str) -> None:
    pod = {"metadata": {}, "spec": POD | {"restartPolicy": "Never"}}
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pod}}}
    meta = {"name": "nightly", "namespace": namespace}
    await kube.create({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec})
    done = await in_thread("cj/nightly", "-n", namespace, "--memory", "reports", "--context", CONTEXT)
    assert "the next run" in done.output
    found = await kube.get(CRON_JOB, namespace, "nightly")
    assert found is not None
    template = found["spec"]["jobTemplate"]["spec"]["template"]["metadata"]
    assert template["labels"] == {"agentmemory.io/inject": "true"}
    assert template["annotations"] == {"agentmemory.io/memory": "reports"}


@pytest.mark.cluster
async def test_a_workload_that_is_not_there_is_exit_2(namespace: str) -> None:
    done = await in_thread("sts/none", "-n", namespace, "--context", CONTEXT)
    assert done.exit_code == 2
    assert f"statefulset/none: is not there in namespace {namespace}" in done.output


async def in_thread(*arguments: str) -> Result:
    """The command runs a loop of its own."""
    return await asyncio.to_thread(run, *arguments)
