"""What must hold between fields that are far apart. Pure: a spec in, problems out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentmemory_sidecar.resource import scope_checks, state_checks
from agentmemory_sidecar.resource.agentmemory import DeletionPolicy, Spec
from agentmemory_sidecar.resource.archive import LockMode
from agentmemory_sidecar.resource.base import Model, at
from agentmemory_sidecar.resource.state import STRONG_SETS, Consistency


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (as in the YAML, from the document's root), and what, with what to do."""

    path: tuple[str | int, ...]
    message: str


def problems(spec: Spec) -> list[Problem]:
    """Everything that is wrong between the fields of a spec whose fields are each valid."""
    found = [
        Problem(("spec", *problem.path), problem.message)
        for check in (
            _regions,
            _per_region,
            _every_region,
            _redis,
            _tls,
            _strong,
            _cosmos,
            _deletion,
            _budgets,
            _schema,
        )
        for problem in check(spec)
    ]
    return list(dict.fromkeys(found))  # what is wrong by default is wrong in every region


def _regions(spec: Spec) -> Iterator[Problem]:
    for index, region in enumerate(spec.regions):
        if region in spec.regions[:index]:
            yield Problem(("regions", index), f"{region} is there twice: name each region once")


def per_region_models(model: Model, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Model]]:
    """Every model below ``model`` that can differ between regions, with its path."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, Model):
            if "per_region" in type(value).model_fields:
                yield (*path, field.alias or name), value
            yield from per_region_models(value, (*path, field.alias or name))


def _per_region(spec: Spec) -> Iterator[Problem]:
    for path, model in per_region_models(spec):
        seen: set[str] = set()
        entries: Sequence[Model] = getattr(model, "per_region", ())
        for index, entry in enumerate(entries):
            region = str(getattr(entry, "region", ""))
            where = (*path, "perRegion", index, "region")
            if region not in spec.regions:
                yield Problem(where, f"{region} is not one of spec.regions ({', '.join(spec.regions)}): add it there")
            if region in seen:
                yield Problem(where, f"{region} is there twice: make one entry of the two")
            seen.add(region)


def _every_region(spec: Spec) -> Iterator[Problem]:
    """What has no default must be given for each region."""
    redis = spec.ephemeral.redis.external if spec.ephemeral.redis else None
    kms = spec.archive.keys.kms
    for region in spec.regions:
        if redis and not at(redis, region).urls:
            yield Problem(("ephemeral", "redis", "external", "urls"), _missing(region, "urls"))
        for tier, postgres in (("state", spec.state.postgres), ("archive", spec.archive.postgres)):
            if postgres is None:
                continue
            access = at(postgres, region)
            if not (access.dsn or access.dsn_from or access.cluster_ref):
                yield Problem((tier, "postgres"), _missing(region, "one of dsn, dsnFrom and clusterRef"))
        if spec.state.cosmosdb and not at(spec.state.cosmosdb, region).endpoint:
            yield Problem(("state", "cosmosdb", "endpoint"), _missing(region, "endpoint"))
        if kms and not (kms.key_arn or any(entry.region == region for entry in kms.per_region)):
            yield Problem(("archive", "keys", "kms", "keyArn"), _missing(region, "keyArn"))


def _missing(region: str, what: str) -> str:
    return f"region {region} has none: give {what} here for all regions, or in a perRegion entry for {region}"


def _redis(spec: Spec) -> Iterator[Problem]:
    redis = spec.ephemeral.redis.external if spec.ephemeral.redis else None
    for access in (at(redis, region) for region in spec.regions) if redis else ():
        urls, path = access.urls or (), ("ephemeral", "redis", "external")
        if len({url.split(":")[0] for url in urls}) > 1:
            yield Problem((*path, "urls"), "are some with TLS and some without: make all redis:// or all rediss://")
        elif len(urls) > 1 and not access.cluster:
            yield Problem((*path, "urls"), "are several, which only a cluster has: set cluster: true, or give one")
        elif access.tls and not all(url.startswith("rediss:") for url in urls):
            yield Problem((*path, "tls"), "needs TLS: write the URLs with rediss://, or leave tls out")
        elif access.cluster and any(url.split("://")[1].partition("/")[2] not in ("", "0") for url in urls):
            yield Problem((*path, "urls"), "name a database, but a cluster has number 0 alone: leave the number out")


def _tls(spec: Spec) -> Iterator[Problem]:
    """Settings that a connection without TLS would ignore."""
    if spec.upstream.tls and spec.upstream.url.startswith("http:"):
        yield Problem(("upstream", "tls"), "needs TLS: write the url with https://, or leave tls out")
    for tier, service in (("state", "dynamodb"), ("state", "cosmosdb"), ("archive", "s3")):
        store = getattr(getattr(spec, tier), service)
        for access in (at(store, region) for region in spec.regions) if store else ():
            if access.tls and (access.endpoint or "").startswith("http:"):
                yield Problem((tier, service, "tls"), "needs TLS: write the endpoint with https://, or leave tls out")


def _strong(spec: Spec) -> Iterator[Problem]:
    table = spec.state.dynamodb
    if table is None:
        return
    path = ("state", "dynamodb")
    if table.consistency is not Consistency.STRONG:
        if table.witness_region:
            yield Problem((*path, "witnessRegion"), "has a use with consistency Strong only: leave it out")
        return
    members = [*spec.regions, *([table.witness_region] if table.witness_region else [])]
    if len(set(members)) != 3:
        yield Problem(
            (*path, "consistency"),
            "Strong needs three different regions, or two and a witnessRegion, because AWS makes such tables in no "
            f"other way; there are {len(set(members))}: change regions, or use Eventual",
        )
        return
    real = {at(table, region).aws_region or region for region in spec.regions} | set(members[len(spec.regions) :])
    if not any(real <= group for group in STRONG_SETS):
        yield Problem(
            (*path, "consistency"),
            f"Strong needs regions of one AWS region set, and {', '.join(members)} are not: take all from one of "
            + "; ".join("(" + ", ".join(sorted(group)) + ")" for group in STRONG_SETS)
            + ", or use Eventual",
        )


def _cosmos(spec: Spec) -> Iterator[Problem]:
    """Each region must know its own place to write in: the account's common URL is any of them."""
    cosmos = spec.state.cosmosdb
    if cosmos is None or not cosmos.multi_region_writes:
        return
    named = {entry.region for entry in cosmos.per_region if entry.preferred_locations}
    urls = [at(cosmos, region).endpoint for region in spec.regions]
    for region, url in zip(spec.regions, urls, strict=True):
        if region not in named and urls.count(url) > 1:
            yield Problem(
                ("state", "cosmosdb", "perRegion"),
                f"multiRegionWrites needs to know where region {region} writes: give an entry for it preferredLocations, "
                "such as [East US], or a regional endpoint",
            )


def _deletion(spec: Spec) -> Iterator[Problem]:
    lock = spec.archive.s3.object_lock if spec.archive.s3 else None
    if spec.deletion_policy is DeletionPolicy.DELETE and lock and lock.mode is LockMode.COMPLIANCE:
        yield Problem(
            ("deletionPolicy",),
            "Delete cannot hold with archive.s3.objectLock.mode Compliance, because nobody can delete those records: "
            "use Retain, or mode Governance",
        )


def _budgets(spec: Spec) -> Iterator[Problem]:
    redis = spec.ephemeral.redis
    turns = (redis.turns if redis else None) or spec.ephemeral.turns
    if spec.hydration.turns is not None and spec.hydration.turns > turns:
        yield Problem(
            ("hydration", "turns"),
            f"is {spec.hydration.turns}, but the window keeps {turns}: lower it, or raise ephemeral.turns",
        )
    if spec.filter.budget_tokens > spec.injection.conversation_tokens:
        yield Problem(
            ("filter", "budgetTokens"),
            f"is {spec.filter.budget_tokens}, more than injection.conversationTokens "
            f"({spec.injection.conversation_tokens}) allows for a whole conversation: lower it, or raise that",
        )


def _schema(spec: Spec) -> Iterator[Problem]:
    for check in (state_checks.wrong, scope_checks.wrong):
        for path, message in check(spec.state):
            yield Problem(("state", *path), message)
