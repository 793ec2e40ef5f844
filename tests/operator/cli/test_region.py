"""The command against the AWS stand-in, and what it says of bad input."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from kubernetes.config import kube_config

from agentmemory_operator.aws import Aws
from agentmemory_operator.plan.aws import CLUSTER
from agentmemory_sidecar.cli.region import region
from tests.aws.front import Front
from tests.operator.tiers import test_dynamodb, test_s3
from tests.operator.tiers.driving import manifest
from tests.operator.tiers.secrets import api_server

REGIONS = ["us-east-1", "us-west-2"]


def spec(**more: Any) -> dict[str, Any]:
    return {
        "regions": REGIONS,
        "state": {"dynamodb": {"table": "support-state"}},
        "archive": {"s3": {"bucketPrefix": "acme-support", "tags": {"team": "support"}}},
        "session": {"identity": {"headers": ["X-Agent-Session"]}},
        **more,
    }


def declared(**more: Any) -> dict[str, Any]:
    return manifest(spec(**more))


async def kept_by(aws: Front, cluster: str) -> None:
    """The operator of that cluster makes all of it."""
    calls = Aws(threads=4)
    for tier in (test_dynamodb, test_s3):
        await tier.driver(aws, calls, declared(), cluster).settle()
    await calls.close()


async def owners(aws: Front) -> set[str]:
    found = {table["tags"][CLUSTER] for table in (await test_dynamodb.world(aws)).values()}
    for bucket in (await test_s3.world(aws)).values():
        tags = {tag["Key"]: tag["Value"] for tag in bucket["get_bucket_tagging"]["TagSet"]}
        assert tags["team"] == "support"
        found.add(tags[CLUSTER])
    return found


@asynccontextmanager
async def kubeconfig(folder: Path, patch: pytest.MonkeyPatch, *resources: dict[str, Any]) -> AsyncIterator[None]:
    """A cluster with these resources is the context `two`."""
    async with api_server({}, resources) as url:
        known = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "two", "cluster": {"server": url}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "two", "context": {"cluster": "two", "user": "me"}}],
        }
        (folder / "kubeconfig").write_text(yaml.safe_dump(known))
        patch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "kubeconfig"))
        yield


async def run(aws: Front, *arguments: str, standalone: bool = True) -> Result:
    endpoints = [f"--{service}-endpoint={aws.url}" for service in ("dynamodb", "s3", "sts")]
    command = ["own", "support", "-n", "agents", "--context", "two", *endpoints, *arguments]
    return await asyncio.to_thread(CliRunner().invoke, region, command, standalone_mode=standalone)


def error(done: Result) -> str:
    (line,) = (line for line in done.output.splitlines() if line.startswith("Error:"))
    return line


async def test_the_tables_and_buckets_move_once_and_the_old_owner_only_looks(
    aws: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept_by(aws, "one")
    aws.changes.clear()
    async with kubeconfig(tmp_path, monkeypatch, declared()):
        told = await run(aws, "--cluster", "two")
        assert told.exit_code == 2
        assert error(told) == "Error: nothing was changed: say --yes to move what is named above"
        assert "Table support-state in us-west-2 goes from cluster one to cluster two." in told.output
        assert aws.changes == []

        done = await run(aws, "--cluster", "two", "--yes")
        assert done.exit_code == 0, done.output
        assert await owners(aws) == {"two"}
        assert len(aws.changes) == 4

        again = await run(aws, "--cluster", "two", "--yes")
        assert again.exit_code == 0
        assert "Bucket acme-support-us-east-1 belongs to cluster two already." in again.output
        assert len(aws.changes) == 4

    calls = Aws(threads=4)
    old = test_dynamodb.driver(aws, calls, declared(), "one")
    await old.settle()
    assert (old.condition.reason, old.effects) == ("ManagedElsewhere", [])
    new = test_s3.driver(aws, calls, declared(), "two")
    await new.settle()
    assert (new.condition.status, new.effects) == (True, [])
    await calls.close()


async def test_what_is_away_moves_when_it_is_back(aws: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept_by(aws, "one")
    async with kubeconfig(tmp_path, monkeypatch, declared()):
        aws.reach("us-east-1", "refuse")
        done = await run(aws, "--cluster", "two", "--yes", standalone=False)
        assert done.return_value == 1
        assert "Table support-state in us-east-1 cannot be looked at" in done.output
        aws.reach("us-east-1", "ok")
        assert await owners(aws) == {"one", "two"}
        await run(aws, "--cluster", "two", "--yes")
    assert await owners(aws) == {"two"}


async def test_another_resources_table_is_refused(aws: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept_by(aws, "one")
    aws.changes.clear()
    async with kubeconfig(tmp_path, monkeypatch, declared(tenant="other")):
        done = await run(aws, "--cluster", "two", "--yes")
    assert done.exit_code == 2
    assert "belongs to agents/support of tenant agents" in error(done)
    assert aws.changes == []


@pytest.mark.parametrize(
    ("spec_of", "arguments", "says"),
    [
        (None, ["--cluster", "two"], "there is no AgentMemory support in namespace agents"),
        ({"state": {"embedded": {}}}, ["--cluster", "two"], "keeps nothing on AWS"),
        (None, [], "say who is to own them: --settings FILE or --cluster NAME"),
        (None, ["--settings", "/there/is/none"], "/there/is/none: cannot be read"),
        (None, ["--cluster", "two", "--context", "none"], "set KUBECONFIG or --context"),
        (
            spec(
                state={
                    "dynamodb": {
                        "table": "support-state",
                        "credentials": {
                            "accessKeyIdFrom": {"secretKeyRef": {"name": "aws", "key": "id"}},
                            "secretAccessKeyFrom": {"secretKeyRef": {"name": "aws", "key": "secret"}},
                        },
                    }
                }
            ),
            ["--cluster", "two"],
            "there is no Secret aws in namespace agents: create it",
        ),
    ],
)
async def test_bad_input_is_exit_2_with_one_line(
    aws: Front,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec_of: dict[str, Any] | None,
    arguments: list[str],
    says: str,
) -> None:
    resources = [] if spec_of is None else [manifest(spec_of)]
    async with kubeconfig(tmp_path, monkeypatch, *resources):
        done = await run(aws, *arguments)
    assert done.exit_code == 2, done.output
    assert says in error(done)
    assert aws.changes == []
