from pathlib import Path

import pytest

from agentmemory_sidecar.resource import ResourceError, load, loads, parse
from tests.sidecar.resource.resources import HEAD, refusal, yaml

EXAMPLES = Path(__file__).parents[3] / "examples"

# Each row: a spec, and the parts that the message about it must have. Lines count from 1; the spec begins on line 5.
BAD: list[tuple[str, list[str]]] = [
    # Fields that do not exist.
    ("regoins: [a]", ["test.yaml:5: spec.regoins: there is no such field: did you mean regions?"]),
    ("filter: {budget_tokens: 5}", ["spec.filter.budget_tokens", "did you mean budgetTokens?"]),
    ("session: {lock: {onconflict: Wait}}", ["spec.session.lock.onconflict", "did you mean onConflict?"]),
    ("extraction: {rules: [{tools: [a], to: /a, on: Call}]}", ["on: YAML takes this name for no text"]),
    ("extraction: {rules: [{tools: [a], to: /a, 'on': Call}]}", ["rules[0].on: there is no such field"]),
    ("hydration: {x: 1}", ["spec.hydration.x: there is no such field: there are budgetTokens, onFresh, turns"]),
    ("state: {dynamodb: {table: abc, tabel: x}}", ["spec.state.dynamodb.tabel", "did you mean table?"]),
    ("archive: {s3: {bucketPrefix: abc, perRegion: [{regoin: a}]}}", ["perRegion[0].regoin", "did you mean region?"]),
    # Values of another type, or none of those there are.
    ("filter: {strategy: lexical}", ["must be Lexical, SubAgent, Hybrid or None (did you mean Lexical?)"]),
    ("filter: {strategy: Vector}", ["spec.filter.strategy: must be Lexical, SubAgent, Hybrid or None"]),
    ('filter: {budgetTokens: "5"}', ["spec.filter.budgetTokens: must be a whole number, not text"]),
    ("filter: {budgetTokens: 1.5}", ["spec.filter.budgetTokens: must be a whole number"]),
    ("filter: {budgetTokens: true}", ["spec.filter.budgetTokens: must be a whole number, not true or false"]),
    ("filter: {budgetTokens: -1}", ["spec.filter.budgetTokens: must be at least 0"]),
    ("ephemeral: {turns: 0}", ["spec.ephemeral.turns: must be at least 1"]),
    ("ephemeral: {turns: 101}", ["spec.ephemeral.turns: must be at most 100"]),
    ("ephemeral: {ttl: 15 minutes}", ["spec.ephemeral.ttl: is not a duration", "such as 500ms, 60s, 15m"]),
    ("ephemeral: {ttl: 900}", ["spec.ephemeral.ttl: is not a duration"]),
    ("ephemeral: {ttl: 8d}", ["spec.ephemeral.ttl: must be between 1s and 7d"]),
    ("session: {lock: {ttl: 1s}}", ["spec.session.lock.ttl: must be between 5s and 10m"]),
    ("archive: {blobs: {threshold: 16kb}}", ["spec.archive.blobs.threshold: is not a size", "16Ki"]),
    ("archive: {blobs: {threshold: 1Mi}}", ["must be between 1Ki and 256Ki"]),
    ("adopt: 'yes'", ["spec.adopt: must be true or false, not text"]),
    ("regions: us-east-1", ["spec.regions: must be a list, not text: put it in [ ]"]),
    ("regions: []", ["spec.regions: must have at least 1 entries"]),
    ("regions: [US]", ["spec.regions[0]: must be a region's name: lower-case letters"]),
    ("regions: [1]", ["spec.regions[0]: must be text, not a number: put it in quotes"]),
    ("upstream: https://x", ["spec.upstream: must be a mapping of fields, not text"]),
    ("upstream: {url: api.anthropic.com}", ["spec.upstream.url: must be an http:// or https:// URL"]),
    ("tenant: a/b", ["spec.tenant: must be letters, digits, dashes"]),
    ("session: {identity: {headers: [X Agent]}}", ["spec.session.identity.headers[0]: must be the name of an HTTP"]),
    ("filter: {pinned: [active_mission]}", ["spec.filter.pinned[0]: must be a JSON pointer, such as /active"]),
    ("state: {schema: {version: 2.1, definition: {}}}", ["spec.state.schema.version: must be text, not a number"]),
    ("state: {dynamodb: {}}", ["spec.state.dynamodb.table: is missing: it must be given"]),
    ("state: {dynamodb: {table: 'a b'}}", ["spec.state.dynamodb.table: must be a DynamoDB table name"]),
    ("filter: {budgetTokens: .nan}", ["test.yaml: .nan and .inf have no place in a resource"]),
    ("session:", ["spec.session: must be a mapping of fields, not nothing: write {} for its defaults, or leave it"]),
    # One of several.
    ("ephemeral: {redis: {}}", ["spec.ephemeral.redis: give exactly one of managed and external", "(found none)"]),
    ("ephemeral: {embedded: {}, redis: {managed: {}}}", ["spec.ephemeral: give at most one", "redis and embedded"]),
    (
        "state: {embedded: {}, dynamodb: {table: abc}}",
        ["spec.state: give at most one", "(found dynamodb and embedded)"],
    ),
    ("archive: {embedded: {}, s3: {bucketPrefix: abc}}", ["spec.archive: give at most one of s3, postgres and"]),
    ("archive: {keys: {local: {}, kms: {}}}", ["spec.archive.keys: give at most one of kms and local"]),
    ("state: {postgres: {dsnFrom: {}}}", ["dsnFrom: give exactly one of secretKeyRef, env and file"]),
    (
        "state: {postgres: {dsn: 'postgresql://hunter2', dsnFrom: {env: A}}}",
        ["spec.state.postgres: give at most one of dsn, dsnFrom and clusterRef"],
    ),
    # Secrets are never quoted.
    ("state: {postgres: {dsn: hunter2}}", ["spec.state.postgres.dsn: must be a DSN that begins with postgresql://"]),
    ("state: {postgres: {dsn: [hunter2]}}", ["spec.state.postgres.dsn: must be text, not a list"]),
    (
        "ephemeral: {redis: {external: {urls: ['redis://:hunter2@h:1']}}}",
        ["urls[0]: must be redis://HOST:PORT", "user and password go into username and passwordFrom"],
    ),
    (
        "ephemeral: {redis: {external: {urls: ['redis://h'], passwordFrom: hunter2}}}",
        ["passwordFrom: must be a mapping"],
    ),
    ("filter: {subAgent: {apiKey: 5}}", ["spec.filter.subAgent.apiKey: must be text, not a number"]),
    # Between fields that belong together.
    ("filter: {strategy: SubAgent}", ["spec.filter: strategy SubAgent needs filter.subAgent"]),
    ("filter: {strategy: Hybrid}", ["spec.filter: strategy Hybrid needs filter.embeddings, filter.subAgent or both"]),
    ("extraction: {rules: [{tools: [a], to: ''}]}", ["rules[0]: to must not be empty"]),
    ("extraction: {rules: [{tools: [a], to: /metadata/v}]}", ["rules[0]: to must not lie in /metadata"]),
    ("extraction: {rules: [{tools: [], to: /a}]}", ["spec.extraction.rules[0].tools: must have at least 1 entries"]),
    ("extraction: {rules: [{tools: [a], to: /a, op: Remove, template: x}]}", ["template has no use with op Remove"]),
    ("upstream: {tls: {keyFrom: {env: K}}}", ["spec.upstream.tls: certificateFrom and keyFrom belong together"]),
]


@pytest.mark.parametrize(("spec", "parts"), BAD, ids=[spec for spec, _ in BAD])
def test_bad_input_is_named_with_place_and_remedy(spec: str, parts: list[str]) -> None:
    message = refusal(yaml(spec))
    assert message.startswith("test.yaml")
    for part in parts:
        assert part in message
    assert "hunter2" not in message


def test_every_problem_is_told_at_once_with_its_line() -> None:
    message = refusal(yaml("regions: [US]\nfilter:\n  strategy: x\n  budgetTokens: -1\n"))
    assert [line.split(": ")[:2] for line in message.splitlines()] == [
        ["test.yaml:5", "spec.regions[0]"],
        ["test.yaml:7", "spec.filter.strategy"],
        ["test.yaml:8", "spec.filter.budgetTokens"],
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "test.yaml: holds no AgentMemory: it needs a document with apiVersion agentmemory.io/v1alpha1 and kind"),
        ("- a\n", "holds no AgentMemory"),
        ("apiVersion: v1\nkind: Pod\n", "holds no AgentMemory"),
        (HEAD.replace("v1alpha1", "v2") + " {}", "test.yaml:1: apiVersion: must be agentmemory.io/v1alpha1"),
        (HEAD.replace("kind: AgentMemory", "kind: agentmemory") + " {}", "kind: must be AgentMemory (did you mean"),
        (HEAD.replace("name: test, ", "") + " {}", "test.yaml:3: metadata.name: is missing"),
        (HEAD.replace("name: test", "name: Test") + " {}", "metadata.name: must be a Kubernetes name"),
        (HEAD + " {}\nspek: {}", "test.yaml:6: spek: there is no such field: did you mean spec?"),
    ],
)
def test_documents_that_are_no_agentmemory(text: str, part: str) -> None:
    assert part in refusal(text)


def test_the_agentmemory_is_found_among_other_documents() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n---\n" + yaml("tenant: acme")
    assert loads(text).tenant == "acme"


def test_of_several_one_must_be_named() -> None:
    text = yaml("tenant: one") + "---\n" + yaml("tenant: two").replace("name: test", "name: other")
    assert loads(text, "other").tenant == "two"
    assert "holds several AgentMemories: say which one by name: test, other" in refusal(text)
    assert "no AgentMemory is called third; it holds test, other" in refusal(text, "third")
    twice = yaml("tenant: one") + "---\n" + yaml("tenant: two")
    assert "several AgentMemories are called test" in refusal(twice, "test")


def test_what_kubectl_prints_is_a_resource() -> None:
    extra = (
        "metadata: {name: test, namespace: agents, uid: abc, resourceVersion: '5', generation: 3, managedFields: []}"
    )
    text = yaml("{}").replace("metadata: {name: test, namespace: agents}", extra) + "status: {conditions: []}\n"
    assert loads(text).metadata.generation == 3


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "huge").write_bytes(b"#" * ((1 << 20) + 1))
    for name, message in [
        ("missing", "cannot be read: No such file or directory"),
        ("binary", "is not UTF-8 text"),
        ("huge", "is larger than 1 MiB"),
    ]:
        with pytest.raises(ResourceError, match=f"{name}: {message}"):
            load(tmp_path / name)


def test_an_object_of_the_api_server_is_checked_too() -> None:
    data = {"apiVersion": "agentmemory.io/v1alpha1", "kind": "AgentMemory", "metadata": {"name": "x"}}
    assert parse(data).metadata.namespace == "default"
    with pytest.raises(ResourceError, match=r"agents/x: spec.tenant: must be letters"):
        parse({**data, "spec": {"tenant": "/"}}, source="agents/x")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_is_a_resource(file: Path) -> None:
    assert load(file).metadata.name


def test_the_first_example_is_short() -> None:
    quickstart = load(EXAMPLES / "quickstart.yaml")
    assert quickstart.spec.state.embedded is not None
    assert quickstart.spec.session.identity.headers == ("X-Agent-Session",)
    assert len((EXAMPLES / "quickstart.yaml").read_text().splitlines()) < 30
