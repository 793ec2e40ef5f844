"""Moving a resource's tables and buckets to another cluster's operator. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agentmemory_operator.plan.aws import CLUSTER, Owner, Standing, refusal
from agentmemory_operator.plan.dynamodb.values import Seen as SeenTable
from agentmemory_operator.plan.dynamodb.values import TagTable
from agentmemory_operator.plan.dynamodb.values import Wanted as WantedTable
from agentmemory_operator.plan.s3 import settings as s
from agentmemory_operator.plan.s3.settings import Setting
from agentmemory_operator.plan.s3.values import PutSetting
from agentmemory_operator.plan.s3.values import Seen as SeenBucket
from agentmemory_operator.plan.s3.values import Wanted as WantedBuckets
from agentmemory_operator.plan.values import Action


@dataclass(frozen=True, slots=True)
class Holding:
    """A table or bucket, as far as its owner goes."""

    what: str
    """Such as ``Table support-state in us-east-1``."""
    move: Action
    """What makes it the new owner's."""
    there: bool = True
    away: str = ""
    """Why it could not be looked at; empty if it could."""
    foreign: str = ""
    """Why it cannot be the resource's."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moves:
    """What is to be done, and what is said of each holding."""

    actions: tuple[Action, ...] = ()
    lines: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Why nothing is moved at all."""
    away: bool = False
    """Whether some holding could not be looked at: it stays with its owner until somebody asks again."""


def moves(holdings: Iterable[Holding], owner: Owner) -> Moves:
    """What makes all of a resource's holdings ``owner``'s. Only what the same resource has in another cluster is moved."""
    actions, lines, problems, away = list[Action](), list[str](), list[str](), False
    for holding in holdings:
        standing = owner.standing(holding.tags)
        if holding.away:
            away = True
            lines.append(f"{holding.what} cannot be looked at, and stays as it is: {holding.away}")
        elif holding.foreign:
            problems.append(holding.foreign)
        elif not holding.there:
            lines.append(f"{holding.what} is not there.")
        elif standing is Standing.FOREIGN:
            problems.append(refusal(holding.what, standing, holding.tags))
        elif standing is Standing.ELSEWHERE:
            actions.append(holding.move)
            lines.append(f"{holding.what} goes from cluster {holding.tags[CLUSTER]} to cluster {owner.cluster}.")
        elif standing is Standing.OURS:
            lines.append(f"{holding.what} belongs to cluster {owner.cluster} already.")
        elif standing is Standing.RELEASED:
            lines.append(
                f"{holding.what} was given up: the operator of cluster {owner.cluster} takes it back by itself."
            )
        else:
            lines.append(f"{holding.what} is nobody's: spec.adopt: true lets the operator take it.")
    return Moves(tuple(actions), tuple(lines), tuple(problems), away)


def tables(wanted: WantedTable, seen: Mapping[str, SeenTable]) -> list[Holding]:
    """The replicas of a table. ``seen`` by AWS region."""
    found = []
    for place in wanted.places:
        table = seen[place.aws_region]
        move = TagTable(wanted.table, place.aws_region, table.arn, {CLUSTER: wanted.owner.cluster})
        what = f"Table {wanted.table} in {place.aws_region}"
        found.append(Holding(what, move, table.there, table.away, tags=table.tags))
    return found


def buckets(wanted: WantedBuckets, seen: Mapping[str, SeenBucket]) -> list[Holding]:
    """The buckets. ``seen`` by name."""
    found = []
    for place in wanted.places:
        bucket = seen[place.bucket]
        tags = s.tags(bucket.tags | {CLUSTER: wanted.owner.cluster})  # S3 takes all of a bucket's tags or none
        move = PutSetting(place.bucket, place.aws_region, Setting.TAGS, tags)
        found.append(Holding(f"Bucket {place.bucket}", move, bucket.there, bucket.away, bucket.foreign, bucket.tags))
    return found
