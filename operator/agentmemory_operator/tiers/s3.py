"""The archive on S3: a bucket in every region of the resource, replicated both ways."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from agentmemory_operator.act import s3 as effects
from agentmemory_operator.aws import Access, Aws
from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.kube import Kube
from agentmemory_operator.observe.s3 import bucket_at
from agentmemory_operator.observe.secrets import SecretValues, secret_values
from agentmemory_operator.plan.own import Holding, buckets
from agentmemory_operator.plan.s3.keep import keep
from agentmemory_operator.plan.s3.leave import STUCK_S, leave
from agentmemory_operator.plan.s3.values import BucketAction, Lock, Place, Seen, Wanted
from agentmemory_operator.plan.values import Action, Condition, Plan
from agentmemory_operator.tiers import Subject
from agentmemory_operator.tiers.aws import NoAccess, abandoned, access, leaving, nowhere, owner, settled
from agentmemory_sidecar.resource.agentmemory import DeletionPolicy
from agentmemory_sidecar.resource.archive import S3
from agentmemory_sidecar.resource.base import at

log = logging.getLogger(__name__)


class S3Tier:
    """:class:`~agentmemory_operator.tiers.Tier` for ``spec.archive.s3``."""

    def __init__(self, kube: Kube, aws: Aws, clock: Callable[[], float] = time.monotonic) -> None:
        """:param aws: shared between tiers; the first that closes it closes it for all."""
        self._kube = kube
        self._aws = aws
        self._clock = clock
        self._stuck: dict[str, tuple[int, float]] = {}
        """How many versions of a bucket could not be deleted, and when. Forgotten after a while, to be tried again."""

    def concerns(self, subject: Subject) -> bool:
        return subject.resource.spec.archive.s3 is not None

    async def look(self, subject: Subject) -> Plan:
        if problem := nowhere(subject, _declared(subject), subject.settings.aws.s3_endpoint):
            return Plan((), (Condition(ConditionType.ARCHIVE_READY, False, Reason.INVALID_SPEC, problem),))
        wanted = wanted_buckets(subject)
        seen = await self._seen(subject, wanted)
        return keep(wanted, seen, settled=settled(subject, ConditionType.ARCHIVE_READY))

    async def look_back(self, subject: Subject) -> Plan:
        if subject.observe_only or nowhere(subject, _declared(subject), subject.settings.aws.s3_endpoint):
            return Plan()
        wanted = wanted_buckets(subject)
        delete = subject.resource.spec.deletion_policy is DeletionPolicy.DELETE
        try:
            seen = await self._seen(subject, wanted, look_inside=True)
        except NoAccess as error:
            if delete:
                raise
            # A namespace that goes takes its Secrets first. Our tags stay then, which harms nobody.
            log.warning("%s/%s: buckets keep their ownership tags: %s", subject.namespace, subject.name, error)
            return Plan()
        named = set(abandoned(subject))
        gone = {place.bucket for place in (*wanted.places, *wanted.leaving) if place.region in named}
        return leave(wanted, seen, delete=delete, abandoned=gone)

    async def act(self, subject: Subject, action: Action) -> None:
        assert isinstance(action, BucketAction)
        wanted = wanted_buckets(subject)
        place = next(p for p in (*wanted.places, *wanted.leaving) if p.bucket == action.bucket)
        values = await secret_values(self._kube, subject.resource)
        kept = await effects.act(self._aws, self._access(subject, place, values), action)
        if kept:
            self._stuck[action.bucket] = kept, self._clock()

    async def holdings(self, subject: Subject) -> list[Holding]:
        """The buckets, for moving them to another owner."""
        wanted = wanted_buckets(subject)
        return buckets(wanted, await self._seen(subject, wanted))

    async def close(self) -> None:
        await self._aws.close()

    async def _seen(self, subject: Subject, wanted: Wanted, *, look_inside: bool = False) -> Mapping[str, Seen]:
        values = await secret_values(self._kube, subject.resource)
        places = [*wanted.places, *wanted.leaving]
        seen = await asyncio.gather(
            *(
                bucket_at(
                    self._aws,
                    self._access(subject, place, values),
                    place,
                    look_inside=look_inside,
                    stuck=self._kept(place.bucket),
                )
                for place in places
            )
        )
        return {place.bucket: bucket for place, bucket in zip(places, seen, strict=True)}

    def _kept(self, bucket: str) -> int:
        count, since = self._stuck.get(bucket, (0, 0.0))
        if count and self._clock() - since >= STUCK_S:
            del self._stuck[bucket]
            return 0
        return count

    def _access(self, subject: Subject, place: Place, values: SecretValues) -> Access:
        store = at(_declared(subject), place.region)
        return access(subject, store, place.region, subject.settings.aws.s3_endpoint, values)


def wanted_buckets(subject: Subject) -> Wanted:
    """What the resource declares of its buckets."""
    store, regions = _declared(subject), subject.resource.spec.regions
    lock = store.object_lock
    places: dict[str, Place] = {}
    for region in (*regions, *leaving(subject)):
        place = _place(store, region)
        places.setdefault(place.bucket, place)
    role = store.replication.role_arn if store.replication else None
    return Wanted(
        places=tuple(place for place in places.values() if place.region in regions),
        owner=owner(subject),
        leaving=tuple(place for place in places.values() if place.region not in regions),
        lock=Lock(lock.mode, lock.days) if lock else None,
        role=role or subject.settings.aws.replication_role_arn,
        prefix=store.key_prefix,
        tags=store.tags,
        adopt=subject.resource.spec.adopt,
    )


def _place(store: S3, region: str) -> Place:
    here = at(store, region)
    named = next((entry.bucket for entry in store.per_region if entry.region == region), None)
    bucket = named or f"{store.bucket_prefix}-{region}"
    return Place(region, here.aws_region or region, bucket, here.kms_key_arn or "")


def _declared(subject: Subject) -> S3:
    store = subject.resource.spec.archive.s3
    assert store is not None
    return store
