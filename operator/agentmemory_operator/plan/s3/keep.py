"""The buckets of a resource that lives: make them, keep them, say how they are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.plan.aws import CLUSTER, Standing, made_in, ours_to_take, refusal
from agentmemory_operator.plan.s3 import settings as s
from agentmemory_operator.plan.s3.settings import Setting, Value
from agentmemory_operator.plan.s3.values import (
    BucketAction,
    CreateBucket,
    Place,
    PutSetting,
    Seen,
    StopReplication,
    Wanted,
)
from agentmemory_operator.plan.values import Condition, Plan

SOON_S = 2.0
AWAY_S = 30.0


def keep(wanted: Wanted, seen: Mapping[str, Seen], *, settled: bool) -> Plan:
    """What brings the buckets to what is wanted. ``seen`` by bucket; ``settled`` as for tables."""
    look = _Look(wanted, seen)
    look.find_problems()
    if look.elsewhere():
        return look.observed()
    creations = tuple(look.creations())
    repairs = tuple(action for place in wanted.places if look.mine(place) for action in look.settings(place))
    departures = tuple(look.departures())
    actions: tuple[BucketAction, ...] = (*creations, *repairs, *departures)
    drift = [action.describe() for action in (*creations, *repairs)] if settled else []
    serving = not look.problems and all(look.at(place).there for place in wanted.places)
    ready = serving and (settled or not actions)
    again_s = SOON_S if actions else AWAY_S if look.problems else None
    return Plan(
        actions,
        (look.condition(ready),),
        again_s,
        drift=tuple(drift),
        notes=look.notes(),
        withheld=frozenset(place.region for place in wanted.places if look.strange(place)),
    )


@dataclass(slots=True)
class _Look:
    wanted: Wanted
    seen: Mapping[str, Seen]
    problems: list[tuple[Reason, str]] = field(default_factory=list)

    def at(self, place: Place) -> Seen:
        return self.seen[place.bucket]

    def standing(self, place: Place) -> Standing:
        return self.at(place).standing(self.wanted.owner)

    def mine(self, place: Place) -> bool:
        bucket = self.at(place)
        known = bucket.there and not bucket.foreign and not bucket.away
        return known and ours_to_take(self.standing(place), adopt=self.wanted.adopt)

    def strange(self, place: Place) -> bool:
        """Whether it is somebody else's, and no sidecar may write there."""
        bucket = self.at(place)
        refused = bucket.there and not self.mine(place) and self.standing(place) is not Standing.ELSEWHERE
        return bool(bucket.foreign) or (refused and not bucket.away)

    def find_problems(self) -> None:
        for place in self.wanted.places:
            bucket = self.at(place)
            if bucket.away:
                reason = Reason.ACCESS_DENIED if bucket.denied else Reason.UNREACHABLE
                self.problems.append((reason, f"{place.region}: {bucket.away}"))
            elif bucket.foreign:
                self.problems.append((Reason.FOREIGN_OBJECT, bucket.foreign))
            elif bucket.there and not self.mine(place) and self.standing(place) is not Standing.ELSEWHERE:
                standing = self.standing(place)
                reason = Reason.ADOPTION_REFUSED if standing is Standing.NOBODYS else Reason.FOREIGN_OBJECT
                self.problems.append((reason, refusal(f"Bucket {place.bucket}", standing, bucket.tags)))
        if len(self.wanted.places) > 1 and not self.wanted.role:
            text = (
                "replication between the buckets needs a role: give archive.s3.replication.roleArn, or Helm's "
                "aws.replicationRoleArn"
            )
            self.problems.append((Reason.INVALID_SPEC, text))

    # -------------------------------------------------------------------------------------------------------- elsewhere

    def elsewhere(self) -> bool:
        """Whether another cluster's operator has the first bucket, and with it the task."""
        first = self.wanted.places[0]
        return self.at(first).there and self.standing(first) is Standing.ELSEWHERE

    def observed(self) -> Plan:
        first = self.wanted.places[0]
        text = refusal(f"Bucket {first.bucket}", Standing.ELSEWHERE, self.at(first).tags) + "."
        missing = [place.bucket for place in self.wanted.places if not self.at(place).there]
        if missing:
            text += f" Not there yet: {', '.join(missing)}."
        condition = Condition(ConditionType.ARCHIVE_READY, not missing, Reason.MANAGED_ELSEWHERE, text)
        return Plan((), (condition,), AWAY_S if missing else None)

    # ---------------------------------------------------------------------------------------------------------- actions

    def creations(self) -> Iterator[CreateBucket]:
        """The first bucket alone, for who makes it owns them all; then the others."""
        first = self.wanted.places[0]
        places = self.wanted.places if self.mine(first) else (first,)
        for place in places:
            bucket = self.at(place)
            if not (bucket.there or bucket.away or bucket.foreign):
                lock = self.wanted.lock is not None
                yield CreateBucket(place.bucket, place.aws_region, self._tags(place, made=True), lock)

    def settings(self, place: Place) -> Iterator[BucketAction]:
        live = self.at(place).settings
        for setting, value in self._intents(place):
            put = s.changed(setting, value, live.get(setting))
            if put is not None:
                yield PutSetting(place.bucket, place.aws_region, setting, put)
        yield from self._replication(place)

    def _intents(self, place: Place) -> Iterator[tuple[Setting, Value]]:
        made = place.aws_region in made_in(self.at(place).tags)
        yield Setting.TAGS, s.tags(self._tags(place, made=made))
        yield Setting.VERSIONING, s.versioning()
        yield Setting.OWNERSHIP, s.ownership()
        yield Setting.PUBLIC_ACCESS, s.public_access()
        if place.kms_key or not s.has_key(self.at(place).settings.get(Setting.ENCRYPTION)):
            yield Setting.ENCRYPTION, s.encryption(place.kms_key)
        if self.wanted.lock:
            yield Setting.OBJECT_LOCK, s.object_lock(self.wanted.lock.mode, self.wanted.lock.days)
        yield Setting.LIFECYCLE, s.lifecycle()
        yield Setting.POLICY, s.policy(place.bucket)

    def _tags(self, place: Place, *, made: bool) -> dict[str, str]:
        return dict(self.wanted.tags) | self.wanted.owner.tags({place.aws_region} if made else ())

    def _replication(self, place: Place) -> Iterator[BucketAction]:
        live = self.at(place).settings.get(Setting.REPLICATION)
        others = [other for other in self.wanted.places if other.bucket != place.bucket]
        if not others:
            left = s.without(Setting.REPLICATION, live, _rules(live))
            if left is not None:
                yield self._replicate(place, left)
            return
        if not self.wanted.role or not self._can_replicate(place):
            return
        # A rule for a bucket that is away now is left as it is, and made only once the bucket has been seen.
        has = {rule.get("ID") for rule in (live or {}).get("Rules", ())}
        to = tuple(
            s.Destination(other.aws_region, other.bucket, other.kms_key)
            for other in others
            if self._can_replicate(other) or (self.at(other).away and s.rule_name(other.aws_region) in has)
        )
        if to:
            put = s.changed(
                Setting.REPLICATION, s.replication(self.wanted.role, self.wanted.prefix, place.kms_key, to), live
            )
            if put is not None:
                yield PutSetting(place.bucket, place.aws_region, Setting.REPLICATION, put)

    def _can_replicate(self, place: Place) -> bool:
        bucket = self.at(place)
        locked = self.wanted.lock is None or bucket.has(Setting.OBJECT_LOCK, "ObjectLockEnabled", "Enabled")
        return bucket.there and locked and bucket.has(Setting.VERSIONING, "Status", "Enabled")

    def _replicate(self, place: Place, value: Value) -> BucketAction:
        if not value["Rules"]:
            return StopReplication(place.bucket, place.aws_region)
        return PutSetting(place.bucket, place.aws_region, Setting.REPLICATION, value)

    def departures(self) -> Iterator[BucketAction]:
        """A bucket whose region leaves keeps what it has, sends nothing more, and is given up."""
        for place in self.wanted.leaving:
            bucket = self.at(place)
            if not bucket.there or self.standing(place) is not Standing.OURS:
                continue
            live = bucket.settings.get(Setting.REPLICATION)
            left = s.without(Setting.REPLICATION, live, _rules(live))
            if left is not None:
                yield self._replicate(place, left)
            yield release(place, bucket)

    # ----------------------------------------------------------------------------------------------------------- report

    def notes(self) -> dict[str, str]:
        words = {}
        for place in self.wanted.places:
            bucket = self.at(place)
            words[place.region] = "bucket " + ("unreachable" if bucket.away else "ready" if bucket.there else "missing")
        return words

    def condition(self, ready: bool) -> Condition:
        if self.problems:
            text = ". ".join(text for _, text in self.problems) + "."
            return Condition(ConditionType.ARCHIVE_READY, False, self.problems[0][0], text)
        if ready:
            return Condition(ConditionType.ARCHIVE_READY, True, Reason.READY)
        names = ", ".join(place.bucket for place in self.wanted.places)
        return Condition(ConditionType.ARCHIVE_READY, False, Reason.CREATING, f"Buckets {names} are being set up.")


def release(place: Place, bucket: Seen) -> PutSetting:
    """Give up a bucket of ours. The other tags stay: by them the same resource gets it back."""
    left = s.without(Setting.TAGS, bucket.settings.get(Setting.TAGS), frozenset({CLUSTER}))
    assert left is not None
    return PutSetting(place.bucket, place.aws_region, Setting.TAGS, left)


def _rules(live: Value | None) -> frozenset[str]:
    """The names of the replication rules that are ours."""
    names = [str(rule.get("ID", "")) for rule in (live or {}).get("Rules", ())]
    return frozenset(name for name in names if name.startswith(f"{s.OURS}-"))
