import pytest

from tests.sidecar.resource.resources import refusal, resource, yaml

TWO = "regions: [us-east-1, us-west-2]\n"
THREE = "regions: [us-east-1, us-east-2, us-west-2]\n"

BAD = [
    ("regions: [a, b, a]", "spec.regions[2]: a is there twice: name each region once"),
    (
        TWO + "state: {dynamodb: {table: abc, perRegion: [{region: eu-west-1}]}}",
        "spec.state.dynamodb.perRegion[0].region: eu-west-1 is not one of spec.regions (us-east-1, us-west-2): add it",
    ),
    (
        TWO + "state: {dynamodb: {table: abc, perRegion: [{region: us-east-1}, {region: us-east-1}]}}",
        "spec.state.dynamodb.perRegion[1].region: us-east-1 is there twice: make one entry of the two",
    ),
    (
        TWO + "ephemeral: {redis: {external: {perRegion: [{region: us-east-1, urls: ['redis://a']}]}}}",
        "spec.ephemeral.redis.external.urls: region us-west-2 has none: give urls here for all regions, or in a "
        "perRegion entry for us-west-2",
    ),
    ("state: {postgres: {}}", "spec.state.postgres: region local has none: give one of dsn, dsnFrom and clusterRef"),
    ("archive: {postgres: {}}", "spec.archive.postgres: region local has none"),
    ("state: {cosmosdb: {database: a, container: b}}", "spec.state.cosmosdb.endpoint: region local has none"),
    (
        TWO + "state: {cosmosdb: {database: a, container: b, endpoint: 'https://a', multiRegionWrites: true,"
        " perRegion: [{region: us-east-1, preferredLocations: [East US]}]}}",
        "spec.state.cosmosdb.perRegion: multiRegionWrites needs to know where region us-west-2 writes",
    ),
    (
        "state: {cosmosdb: {database: a, container: b, endpoint: 'http://a', tls: {}}}",
        "spec.state.cosmosdb.tls: needs TLS: write the endpoint with https://, or leave tls out",
    ),
    ("archive: {keys: {kms: {}}}", "spec.archive.keys.kms.keyArn: region local has none"),
    (
        "ephemeral: {redis: {external: {urls: ['redis://a', 'redis://b']}}}",
        "urls: are several, which only a cluster has: set cluster: true, or give one",
    ),
    (
        "ephemeral: {redis: {external: {cluster: true, urls: ['redis://a', 'rediss://b']}}}",
        "urls: are some with TLS and some without",
    ),
    ("ephemeral: {redis: {external: {urls: ['redis://a'], tls: {}}}}", "tls: needs TLS: write the URLs with rediss://"),
    (
        "ephemeral: {redis: {external: {cluster: true, urls: ['redis://a/1']}}}",
        "urls: name a database, but a cluster has number 0 alone",
    ),
    ("upstream: {url: 'http://h', tls: {}}", "spec.upstream.tls: needs TLS: write the url with https://"),
    (
        "state: {dynamodb: {table: abc, perRegion: [{region: local, endpoint: 'http://h', tls: {}}]}}",
        "spec.state.dynamodb.tls: needs TLS: write the endpoint with https://",
    ),
    (
        "archive: {s3: {bucketPrefix: abc, endpoint: 'http://h', tls: {}}}",
        "spec.archive.s3.tls: needs TLS: write the endpoint with https://",
    ),
    (
        TWO + "state: {dynamodb: {table: abc, consistency: Strong}}",
        "spec.state.dynamodb.consistency: Strong needs three different regions, or two and a witnessRegion, because "
        "AWS makes such tables in no other way; there are 2",
    ),
    (
        TWO + "state: {dynamodb: {table: abc, consistency: Strong, witnessRegion: us-east-1}}",
        "Strong needs three different regions",
    ),
    (
        "regions: [us-east-1, us-west-2, eu-west-1]\nstate: {dynamodb: {table: abc, consistency: Strong}}",
        "Strong needs regions of one AWS region set, and us-east-1, us-west-2, eu-west-1 are not",
    ),
    (
        TWO + "state: {dynamodb: {table: abc, witnessRegion: us-east-2}}",
        "spec.state.dynamodb.witnessRegion: has a use with consistency Strong only",
    ),
    (
        "archive: {s3: {bucketPrefix: abc, objectLock: {mode: Compliance, days: 1}}}\ndeletionPolicy: Delete",
        "spec.deletionPolicy: Delete cannot hold with archive.s3.objectLock.mode Compliance",
    ),
    ("hydration: {turns: 6}", "spec.hydration.turns: is 6, but the window keeps 5: lower it, or raise ephemeral.turns"),
    (
        "filter: {budgetTokens: 30000}",
        "spec.filter.budgetTokens: is 30000, more than injection.conversationTokens (20000) allows",
    ),
    (
        "state: {migrations: [{from: '2', to: '2', patch: []}]}",
        "spec.state.migrations[0].to: is not later than 2, where it comes from",
    ),
]


@pytest.mark.parametrize(("spec", "part"), BAD, ids=[part[:60] for _, part in BAD])
def test_fields_that_do_not_go_together(spec: str, part: str) -> None:
    message = refusal(yaml(spec))
    assert part in message
    assert message.startswith("test.yaml:")


GOOD = [
    "upstream: {url: 'https://h', tls: {}}",
    "state: {dynamodb: {table: abc, tls: {}}}",
    "ephemeral: {redis: {external: {cluster: true, urls: ['redis://a/0']}}}",
    THREE + "state: {dynamodb: {table: abc, consistency: Strong}}",
    TWO + "state: {dynamodb: {table: abc, consistency: Strong, witnessRegion: us-east-2}}",
    "archive: {s3: {bucketPrefix: abc, objectLock: {mode: Compliance, days: 1}}}",
    "archive: {s3: {bucketPrefix: abc, objectLock: {days: 1}}}\ndeletionPolicy: Delete",
    "ephemeral: {turns: 10}\nhydration: {turns: 10}",
    "ephemeral: {redis: {managed: {}, turns: 10}}\nhydration: {turns: 10}",
    "archive: {keys: {kms: {perRegion: [{region: local, keyArn: 'arn:a'}]}}}",
    "ephemeral: {redis: {external: {cluster: true, urls: ['rediss://a', 'rediss://b'], tls: {}}}}",
]


@pytest.mark.parametrize("spec", GOOD)
def test_fields_that_do_go_together(spec: str) -> None:
    assert resource(spec)


def test_a_problem_of_all_regions_is_told_once_for_each() -> None:
    assert len(refusal(yaml(TWO + "state: {postgres: {}}")).splitlines()) == 2
    two_urls = "ephemeral: {redis: {external: {urls: ['redis://a', 'redis://b']}}}"
    assert len(refusal(yaml(TWO + two_urls)).splitlines()) == 1
