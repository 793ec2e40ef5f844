"""The example of two regions as it stands: Redis Clusters, a global table and buckets, and agents in each region."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.cluster.agents import apply, ask, deployment, memory, ready, rolled_out, running_pod
from e2e.cluster.aws import aws
from e2e.cluster.redis import redis_pods
from e2e.cluster.shell import kubectl
from e2e.cluster.wait import until

EXAMPLE = Path("examples/two-regions.yaml")
NAMESPACE, NAME = "agents", "support"
REGIONS = ("us-east-1", "us-west-2")
INJECT = {"agentmemory.io/inject": "true"}
QUESTION = "What is the code word of the launch?"


@pytest.fixture(scope="module")
async def agents() -> AsyncIterator[str]:
    await kubectl("create", "namespace", NAMESPACE)
    await kubectl("apply", "-f", "-", stdin=EXAMPLE.read_text())
    await ready(NAMESPACE, NAME, timeout_s=400)
    for region in REGIONS:
        agent = deployment(NAMESPACE, f"agent-{region}", region)
        agent["spec"]["template"]["metadata"]["labels"] |= INJECT
        await apply(agent)
    yield NAMESPACE
    await kubectl("-n", NAMESPACE, "delete", "agentmemory", NAME, "--wait=false", check=False)
    await kubectl("delete", "namespace", NAMESPACE, "--wait=false")


async def test_everything_that_it_declares_is_made_and_serves_agents_in_both_regions(agents: str) -> None:
    for region in REGIONS:
        assert len(await redis_pods(agents, region)) == 6
        await rolled_out(agents, f"deployment/agent-{region}")
    table = await aws("us-west-2", "dynamodb", "describe_table", TableName="support-state")
    assert "us-east-1" in {row["RegionName"] for row in table["Table"]["Replicas"]}
    for region in REGIONS:
        rules = await aws(region, "s3", "get_bucket_replication", Bucket=f"acme-support-{region}")
        assert rules["ReplicationConfiguration"]["Rules"]
        lock = await aws(region, "s3", "get_object_lock_configuration", Bucket=f"acme-support-{region}")
        assert lock["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"
    for region in REGIONS:
        fact, session = secrets.token_hex(5), f"s-{secrets.token_hex(4)}"
        told = await ask(agents, session, f"The code word of the launch is {fact}.", app=f"agent-{region}")
        assert told.receipt, "no sidecar"
        pod = await running_pod(agents, f"agent-{region}")
        await kubectl("-n", agents, "delete", "pod", pod)
        known = await ask(agents, session, QUESTION, app=f"agent-{region}")
        assert fact in known.answer, known


async def test_drift_is_reported_and_repaired(agents: str) -> None:
    bucket = "acme-support-us-east-1"
    before = await aws("us-east-1", "s3", "get_bucket_policy", Bucket=bucket)
    await aws("us-east-1", "s3", "delete_bucket_policy", Bucket=bucket)
    # Touch the resource: what is outside the cluster is otherwise looked at every five minutes.
    await kubectl("-n", agents, "annotate", "agentmemory", NAME, f"drill={secrets.token_hex(2)}", "--overwrite")

    async def repaired() -> bool:
        after = await aws("us-east-1", "s3", "get_bucket_policy", Bucket=bucket)
        return bool(after["Policy"] == before["Policy"])

    await until("the bucket's policy to be back", repaired, timeout_s=90)
    events = await kubectl("-n", agents, "get", "events", "--field-selector=reason=Repaired", "-o", "wide")
    assert bucket in events.out


@pytest.mark.all
async def test_a_bucket_of_somebody_else_is_refused(agents: str) -> None:
    await aws("us-east-1", "s3", "create_bucket", Bucket="acme-taken-us-east-1")
    taken = EXAMPLE.read_text().replace("name: support", "name: taken").replace("acme-support", "acme-taken")
    await kubectl("apply", "-f", "-", stdin=taken.replace("support-state", "taken-state"))

    async def refused() -> bool:
        conditions = await memory(agents, "taken")
        return conditions.get("ArchiveReady", "").startswith(("False/AdoptionRefused", "False/ForeignObject"))

    await until("the refusal", refused, timeout_s=120)
    await kubectl("-n", agents, "delete", "agentmemory", "taken", "--wait=false")
