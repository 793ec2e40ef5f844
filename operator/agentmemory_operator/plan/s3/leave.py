"""The buckets of a resource that is being deleted: give them up, or delete what we made and Object Lock lets go."""

from collections.abc import Collection, Mapping

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.aws import Standing, made_in
from agentmemory_operator.plan.s3.keep import AWAY_S, SOON_S, release
from agentmemory_operator.plan.s3.settings import Setting
from agentmemory_operator.plan.s3.values import (
    BucketAction,
    DeleteBucket,
    EmptyBucket,
    Place,
    Seen,
    StopReplication,
    Wanted,
)
from agentmemory_operator.plan.values import Condition, Plan

STUCK_S = 600.0
"""Between two tries at a bucket that Object Lock keeps full."""


def leave(wanted: Wanted, seen: Mapping[str, Seen], *, delete: bool, abandoned: Collection[str] = ()) -> Plan:
    """What is left to do before the resource may go. ``abandoned`` are buckets that are not waited for."""
    places = (*wanted.places, *wanted.leaving)
    ours = [place for place in places if _ours(wanted, seen[place.bucket])]
    doomed = [place for place in ours if delete and place.aws_region in made_in(seen[place.bucket].tags)]
    actions: list[BucketAction] = [release(place, seen[place.bucket]) for place in ours if place not in doomed]
    waiting: list[tuple[Reason, str]] = []
    again_s: list[float] = [SOON_S] if actions or doomed else []
    for place in places:
        if seen[place.bucket].away and place.bucket not in abandoned:
            text = f"{place.region}: {seen[place.bucket].away}"
            waiting.append((Reason.UNREACHABLE, f"{text}; name the region in agentmemory.io/remove-region to go on"))
            again_s.append(AWAY_S)
    # Replication ends everywhere before anything is deleted, or the deletions would travel.
    sending = [place for place in doomed if seen[place.bucket].settings.get(Setting.REPLICATION)]
    if sending:
        actions += [StopReplication(place.bucket, place.aws_region) for place in sending]
    else:
        for place in doomed:
            step, problem = _step(place, seen[place.bucket])
            actions += step
            waiting += [(Reason.NOT_EMPTY, problem)] if problem else []
    if not actions and any(reason is Reason.NOT_EMPTY for reason, _ in waiting):
        again_s = [STUCK_S]
    if not (actions or waiting):
        return Plan()
    text = " ".join(text for _, text in waiting) or "Buckets are being released."
    reason = waiting[0][0] if waiting else Reason.WAITING
    return Plan(tuple(actions), (Condition(ConditionType.ARCHIVE_READY, False, reason, text),), min(again_s))


def _ours(wanted: Wanted, bucket: Seen) -> bool:
    known = bucket.there and not bucket.foreign and not bucket.away
    return known and bucket.standing(wanted.owner) is Standing.OURS


def _step(place: Place, bucket: Seen) -> tuple[list[BucketAction], str]:
    if not bucket.filled:
        return [DeleteBucket(place.bucket, place.aws_region)], ""
    if not bucket.stuck:
        return [EmptyBucket(place.bucket, place.aws_region)], ""
    text = (
        f"Bucket {place.bucket} still holds {bucket.stuck} versions that Object Lock keeps: wait until their retention "
        "ends, or set deletionPolicy: Retain, and the bucket stays."
    )
    return [], text
