import json
import subprocess
import sys

from agentmemory_sidecar.resource import AgentMemory
from tests.sidecar.resource.resources import resource

DESIGN_SAMPLE = """
regions: [us-east-1, us-west-2]
ephemeral:
  redis: {managed: {shards: 3, replicas: 1}, turns: 5, ttl: 15m}
state:
  dynamodb: {table: support-state, consistency: Eventual}
  scope: Session
archive:
  s3: {bucketPrefix: acme-support, objectLock: {mode: Governance, days: 365}}
session:
  identity: {headers: [X-Agent-Session]}
  lock: {ttl: 60s, onConflict: Reject}
filter: {strategy: Lexical, budgetTokens: 1000}
deletionPolicy: Retain
"""


def test_nothing_needs_to_be_said() -> None:
    spec = resource("{}").spec
    assert spec.regions == ("local",)
    assert (spec.ephemeral.turns, str(spec.ephemeral.ttl)) == (5, "15m")
    assert (spec.session.lock.on_conflict, spec.session.lock.scope, str(spec.session.lock.ttl)) == (
        "Reject",
        "Step",
        "1m",
    )
    assert (spec.filter.strategy, spec.filter.budget_tokens) == ("Lexical", 1000)
    assert (spec.ephemeral.on_unavailable, spec.state.on_unavailable) == ("Degraded", "Refuse")
    assert (spec.on_disconnect, spec.deletion_policy, spec.management_policy) == ("Cancel", "Retain", "Full")
    assert spec.archive.blobs.threshold.bytes == 16384
    assert (spec.injection.role, spec.adopt, spec.extraction.builtin) == ("User", False, True)


def test_the_sample_of_the_design_is_a_resource() -> None:
    spec = resource(DESIGN_SAMPLE).spec
    assert spec.ephemeral.redis is not None
    assert spec.ephemeral.redis.managed is not None
    assert spec.ephemeral.redis.managed.shards == 3
    assert spec.archive.s3 is not None
    assert spec.archive.s3.object_lock is not None
    assert spec.archive.s3.object_lock.days == 365


def test_the_tenant_is_the_namespace_unless_it_is_named() -> None:
    assert resource("{}").tenant == "agents"
    assert resource("tenant: acme").tenant == "acme"


def test_a_resource_is_read_back_from_its_json() -> None:
    original = resource(DESIGN_SAMPLE)
    written = original.model_dump_json(by_alias=True, exclude_none=True)
    assert AgentMemory.model_validate_json(written) == original
    assert json.loads(written)["spec"]["session"]["lock"]["ttl"] == "1m"


def test_where_it_was_read_from_is_no_part_of_it() -> None:
    assert resource("{}") == resource("# a comment\n{}")


def test_the_resource_imports_pydantic_and_yaml_alone() -> None:
    script = """
import sys
before = set(sys.modules)
import pydantic, pydantic.json_schema, yaml, annotated_types
known = set(sys.modules)
import agentmemory_sidecar.resource, agentmemory_sidecar.resource.docs
new = {name.split(".")[0] for name in set(sys.modules) - known if not name.startswith("_sysconfigdata")}
print(sorted(new - set(sys.stdlib_module_names) - {"pydantic", "pydantic_core", "yaml", "agentmemory_sidecar"}))
print(sorted(name for name in sys.modules if name.startswith("agentmemory_sidecar.") and ".resource" not in name))
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output == "[]\n[]\n"
