"""The tables and buckets of a resource become those of another cluster's operator: what `agentmemory region own` does.

The old owner needs not be asked: it finds the tag changed at its next look, and only looks from then on.
"""

from collections.abc import Callable

from agentmemory_operator.aws import Aws
from agentmemory_operator.kube import AGENTMEMORY, Kube
from agentmemory_operator.plan.own import Moves, moves
from agentmemory_operator.settings import Settings
from agentmemory_operator.tiers import Subject
from agentmemory_operator.tiers.aws import NoAccess, owner
from agentmemory_operator.tiers.dynamodb import DynamoDbTier
from agentmemory_operator.tiers.s3 import S3Tier
from agentmemory_sidecar.resource import parse


class CannotOwn(Exception):
    """Nothing was changed. The text says why, and what to do."""


async def own(
    kube: Kube, settings: Settings, namespace: str, name: str, *, yes: bool, say: Callable[[str], None]
) -> bool:
    """Move everything that the resource keeps on AWS to ``settings.cluster_name``. Returns whether all of it is there now;
    False where a region did not answer. A second time it finds nothing to do.

    Raises CannotOwn before anything is changed, also without ``yes`` where there is something to move; ResourceError for a
    resource that is none; KubeError, KubeUnreachable and TierFailed, after which it may be called again.
    """
    manifest = await kube.get(AGENTMEMORY, namespace, name)
    if manifest is None:
        raise CannotOwn(f"there is no AgentMemory {name} in namespace {namespace}: name another, or another -n")
    resource = parse({key: value for key, value in manifest.items() if key != "status"}, source=f"{namespace}/{name}")
    subject = Subject(resource, manifest, settings, ())
    aws = Aws()
    try:
        chosen = [tier for tier in (DynamoDbTier(kube, aws), S3Tier(kube, aws)) if tier.concerns(subject)]
        if not chosen:
            raise CannotOwn(
                f"AgentMemory {namespace}/{name} keeps nothing on AWS: only tables and buckets have an owner"
            )
        try:
            found = [(tier, moves(await tier.holdings(subject), owner(subject))) for tier in chosen]
        except NoAccess as error:
            raise CannotOwn(str(error)) from None
        _tell(say, [each for _, each in found], yes=yes)
        for tier, each in found:
            for action in each.actions:
                await tier.act(subject, action)
    finally:
        await aws.close()
    return not any(each.away for _, each in found)


def _tell(say: Callable[[str], None], found: list[Moves], *, yes: bool) -> None:
    if problems := [problem for each in found for problem in each.problems]:
        raise CannotOwn("; ".join(problems))
    for each in found:
        for line in each.lines:
            say(line)
    if any(each.actions for each in found) and not yes:
        raise CannotOwn("nothing was changed: say --yes to move what is named above")


def named(settings: Settings, cluster: str, dynamodb: str, s3: str, sts: str) -> Settings:
    """The settings with what the command line says instead."""
    given = {"dynamodb_endpoint": dynamodb, "s3_endpoint": s3, "sts_endpoint": sts}
    aws = settings.aws.model_copy(update={name: value for name, value in given.items() if value})
    return settings.model_copy(update={"aws": aws} | ({"cluster_name": cluster} if cluster else {}))
